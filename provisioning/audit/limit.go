package audit

import (
	"net"
	"sync"
	"time"
)

// Bounds of what peers who have proved nothing can have written.
const (
	perMinute    = 60   // events of one address
	maxAddresses = 4096 // counted apart; all further ones share one count
)

// Limiter keeps strangers from filling the list: it counts the events that
// each network address caused within a minute. The zero Limiter is ready; it
// is safe for concurrent use.
type Limiter struct {
	mu    sync.Mutex
	since time.Time
	seen  map[string]int // by address without port
}

// Admit reports whether an event that peer ("host:port") caused is written;
// last says that it is the last one of this minute.
func (l *Limiter) Admit(peer string, now time.Time) (ok, last bool) {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		host = "" // no address: counted with the others of its kind
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil || now.Sub(l.since) >= time.Minute || now.Before(l.since) {
		l.seen, l.since = make(map[string]int), now
	}
	if _, known := l.seen[host]; !known && len(l.seen) >= maxAddresses {
		host = ""
	}
	n := l.seen[host] + 1
	if n <= perMinute { // counting stops there
		l.seen[host] = n
		return true, n == perMinute
	}
	return false, false
}

// LastNote is added to the detail of the last event that Admit lets through.
const LastNote = " (further events of this address within the minute are not listed)"
