package segment

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

const (
	headerLength = 14         // destination, source, type
	maxFrame     = 65536 + 64 // QEMU's NET_BUFSIZE with a virtio header; jumbo and offloaded frames fit
	queueLength  = 1024       // frames waiting at one port; more are dropped
)

// ErrClosed is returned by Attach on a closed segment.
var ErrClosed = errors.New("segment is closed")

type address [6]byte

// group addresses go to every port.
func (a address) group() bool { return a[0]&1 == 1 }

// Config says how to make a segment. The zero value is usable.
type Config struct {
	// Seed makes loss and jitter repeatable.
	Seed uint64
}

// Segment is the switch. It is safe for concurrent use.
type Segment struct {
	mu      sync.Mutex
	ports   map[*Port]struct{}
	table   map[address]*Port
	rng     *rand.Rand
	dropAll bool
	capture *capture
	closed  bool
	running sync.WaitGroup
}

// New makes a segment without ports.
func New(c Config) *Segment {
	return &Segment{ports: map[*Port]struct{}{}, table: map[address]*Port{}, rng: rand.New(rand.NewPCG(c.Seed, 0))}
}

// Rule says what a port does to the frames that leave it towards its device.
// The zero value delivers everything at once.
type Rule struct {
	Loss   float64       // share of the frames that is dropped, 0 to 1
	Delay  time.Duration // of every frame
	Jitter time.Duration // further delay, uniformly 0 to this; frames may overtake each other
}

func (r Rule) validate() error {
	if !(r.Loss >= 0 && r.Loss <= 1) || r.Delay < 0 || r.Jitter < 0 {
		return fmt.Errorf("rule %+v: loss must be 0 to 1, delays not negative", r)
	}
	return nil
}

// Stats counts frames at one port.
type Stats struct {
	In      uint64 // from the device
	Out     uint64 // delivered to the device
	Lost    uint64 // by its rule or by DropAll
	Dropped uint64 // because the device does not read
}

// Ports lists the ports in no particular order.
func (s *Segment) Ports() []*Port {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Port
	for p := range s.ports {
		list = append(list, p)
	}
	return list
}

// SetRule applies rule to every port of that name; there must be one.
func (s *Segment) SetRule(name string, rule Rule) error {
	if err := rule.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := false
	for p := range s.ports {
		if p.name == name {
			p.rule, found = rule, true
		}
	}
	if !found {
		return fmt.Errorf("set rule: no port %q", name)
	}
	return nil
}

// DropAll cuts (true) or repairs (false) the whole segment. Frames that are
// dropped here are still captured.
func (s *Segment) DropAll(drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropAll = drop
}

// forward is called by a port's reader for each frame, which it may keep.
func (s *Segment) forward(from *Port, frame []byte) {
	if len(frame) < headerLength {
		return
	}
	to, source := address(frame[:6]), address(frame[6:12])
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	from.stats.In++
	if s.capture != nil {
		s.capture.write(frame, now)
	}
	if !source.group() {
		s.table[source] = from
	}
	if known, ok := s.table[to]; ok && !to.group() {
		if known != from {
			s.deliver(known, frame, now)
		}
		return
	}
	for p := range s.ports {
		if p != from {
			s.deliver(p, frame, now)
		}
	}
}

// deliver applies the port's rule. The segment is locked.
func (s *Segment) deliver(p *Port, frame []byte, now time.Time) {
	if s.dropAll || (p.rule.Loss > 0 && s.rng.Float64() < p.rule.Loss) {
		p.stats.Lost++
		return
	}
	due := now.Add(p.rule.Delay)
	if p.rule.Jitter > 0 {
		due = due.Add(time.Duration(s.rng.Int64N(int64(p.rule.Jitter))))
	}
	if !due.After(now) {
		p.enqueue(frame)
		return
	}
	s.running.Add(1)
	time.AfterFunc(due.Sub(now), func() {
		defer s.running.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		p.enqueue(frame)
	})
}

// remove forgets a port whose device went away.
func (s *Segment) remove(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.ports[p]; !ok {
		return
	}
	delete(s.ports, p)
	for a, owner := range s.table {
		if owner == p {
			delete(s.table, a)
		}
	}
	close(p.queue)
}

func (s *Segment) add(name string, device io.ReadWriteCloser, framed bool) (*Port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	p := &Port{name: name, segment: s, device: device, framed: framed, queue: make(chan []byte, queueLength)}
	s.ports[p] = struct{}{}
	s.running.Go(p.receive)
	s.running.Go(p.transmit)
	return p, nil
}

// Close ends all ports, waits for their goroutines and closes the capture.
func (s *Segment) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, p := range s.Ports() {
		p.Close()
	}
	s.running.Wait()
	return s.StopCapture()
}

var _ interface {
	Attach(string) (*os.File, error)
} = (*Segment)(nil)
