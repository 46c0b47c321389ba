package sip

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// link is one connection to the call server.
type link struct {
	*guard
	remote string // where requests go: never anywhere else
	callID string
	seq    uint32
}

// stayRegistered connects, registers and starts over when that is lost.
// RFC 5626 section 4.5: the wait is 50 to 100 % of min(max, base*2^n).
func (p *Phone) stayRegistered(ctx context.Context) {
	for failures := 0; ; failures++ {
		held, err := p.session(ctx)
		if ctx.Err() != nil {
			return
		}
		p.cfg.Log.Warn("registration lost", "error", err)
		p.emit(Event{Kind: Unregistered, Reason: err.Error()})
		if held {
			failures = 0
		}
		select {
		case <-time.After(backoff(p.cfg.RetryBase, p.cfg.RetryMax, failures)):
		case <-ctx.Done():
			return
		}
	}
}

func backoff(base, limit time.Duration, failures int) time.Duration {
	upper := limit
	if failures < 20 && base<<failures < limit {
		upper = base << failures
	}
	return upper/2 + rand.N(upper/2+1)
}

// session holds one registration as long as it lasts; held says that there
// was one.
func (p *Phone) session(ctx context.Context) (held bool, err error) {
	l, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = l.Close() }() // the session's own error says more
	expires, err := p.register(ctx, l, p.cfg.Expires)
	if err != nil {
		return false, err
	}
	p.setLink(l)
	defer p.setLink(nil)
	p.emit(Event{Kind: Registered})
	err = p.refresh(ctx, l, expires)
	if ctx.Err() != nil {
		p.leave(l)
	}
	return true, err
}

func (p *Phone) setLink(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link = l
}

// leave hangs up and removes the registration; the phone is going down, so
// nothing waits long and errors change nothing.
func (p *Phone) leave(l *link) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if p.Hangup() == nil {
		p.awaitIdle(ctx)
	}
	_, _ = p.register(ctx, l, 0)
}

func (p *Phone) awaitIdle(ctx context.Context) {
	p.mu.Lock()
	c := p.call
	p.mu.Unlock()
	if c == nil {
		return
	}
	select {
	case <-c.gone:
	case <-ctx.Done():
	}
}

// refresh pings and re-registers until something fails or ctx ends.
func (p *Phone) refresh(ctx context.Context, l *link, expires time.Duration) error {
	ping := time.NewTicker(p.cfg.KeepAlive)
	defer ping.Stop()
	renew := time.NewTimer(expires * 3 / 4)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.down:
			return fmt.Errorf("connection lost: %w", l.cause())
		case <-ping.C:
			if err := l.ping(); err != nil {
				return fmt.Errorf("keep-alive: %w", err)
			}
		case <-renew.C:
			next, err := p.register(ctx, l, p.cfg.Expires)
			if err != nil {
				return err
			}
			renew.Reset(next * 3 / 4)
		}
	}
}

// connect dials the call server over mutual TLS 1.3 and hands the guarded
// connection to sipgo.
func (p *Phone) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	cert, err := p.cfg.Certificate()
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", p.cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("connect to call server: %w", err)
	}
	conn := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: p.cfg.CAs, ServerName: p.cfg.ServerName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS with call server: %w", err)
	}
	l := &link{guard: newGuard(conn, p.cfg.KeepAlive+p.cfg.PongWait, p.cfg.Log), remote: conn.RemoteAddr().String(),
		callID: sip.GenerateTagN(24)}
	if err := p.feed.hand(ctx, l.guard); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("hand over connection: %w", err)
	}
	return l, nil
}

// register sends one REGISTER; it returns how long the server keeps it.
func (p *Phone) register(ctx context.Context, l *link, expires time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	l.seq++
	req := sip.NewRequest(sip.REGISTER, sip.Uri{Scheme: "sip", Host: p.cfg.Domain})
	from := &sip.FromHeader{Address: p.aor(p.cfg.User)}
	from.Params.Add("tag", sip.GenerateTagN(16))
	id, exp := sip.CallIDHeader(l.callID), sip.ExpiresHeader(expires/time.Second)
	for _, h := range []sip.Header{from, &sip.ToHeader{Address: p.aor(p.cfg.User)}, &id,
		&sip.CSeqHeader{SeqNo: l.seq, MethodName: sip.REGISTER}, p.contact(), &exp} {
		req.AppendHeader(h)
	}
	route(req, l)
	res, err := p.client.Do(ctx, req, sipgo.ClientRequestBuild)
	if err != nil {
		if cause := l.cause(); cause != nil {
			err = cause // names the TLS alert
		}
		return 0, fmt.Errorf("register: %w", err)
	}
	if !res.IsSuccess() {
		return 0, fmt.Errorf("register: refused with %d %s", res.StatusCode, res.Reason)
	}
	return granted(res, expires), nil
}

// route sends req over l, whatever its headers say.
func route(req *sip.Request, l *link) {
	req.SetTransport("TLS")
	req.SetDestination(l.remote)
}

// granted is the lifetime that the server chose, within 30 s and what we asked.
func granted(res *sip.Response, asked time.Duration) time.Duration {
	text := ""
	if c := res.Contact(); c != nil {
		text, _ = c.Params.Get("expires")
	}
	if h := res.GetHeader("Expires"); text == "" && h != nil {
		text = h.Value()
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return asked
	}
	return max(min(asked, time.Duration(n)*time.Second), min(asked, 30*time.Second))
}
