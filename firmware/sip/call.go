package sip

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"ringfence/firmware/sdp"
	"ringfence/provisioning/wire/report"
)

// Reasons in report.Call.
const (
	reasonHangup     = "hangup"
	reasonPeerHangup = "peer hangup"
	reasonBusy       = "busy"
	reasonNoAnswer   = "no answer"
	reasonRefused    = "refused"
	reasonMediaLost  = "media lost"
)

// call is the phone's one call. Its goroutine (outgoing) or its INVITE
// handler (incoming) alone drives it; the others only send signals.
type call struct {
	record    report.Call
	emergency bool
	stop      chan string   // our wish to end, carries the reason; capacity 1
	answer    chan struct{} // a person answers; capacity 1
	bye       chan struct{} // closed when the peer's BYE was accepted
	acked     chan struct{} // closed when the peer's ACK arrived
	gone      chan struct{} // closed when the phone is idle again
	byeOnce   sync.Once
	ackOnce   sync.Once

	mu     sync.Mutex
	dialog *dialog // nil before the call is answered
}

func newCall(peer string, outgoing bool) *call {
	return &call{record: report.Call{Peer: peer, Outgoing: outgoing, Start: time.Now().UTC()}, stop: make(chan string, 1),
		answer: make(chan struct{}, 1), bye: make(chan struct{}), acked: make(chan struct{}), gone: make(chan struct{})}
}

func (c *call) setDialog(d *dialog) { c.mu.Lock(); c.dialog = d; c.mu.Unlock() }

func (c *call) getDialog() *dialog { c.mu.Lock(); defer c.mu.Unlock(); return c.dialog }

// take makes c the phone's call and returns the link and context it runs on.
func (p *Phone) take(c *call) (*link, context.Context, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil || p.ctx.Err() != nil {
		return nil, nil, ErrNotRegistered
	}
	if p.call != nil {
		return nil, nil, ErrBusy
	}
	p.call = c
	p.work.Add(1)
	return p.link, p.ctx, nil
}

// finish stops the media, writes the record and makes the phone idle.
func (p *Phone) finish(c *call, reason string) {
	m := p.cfg.Media.Stop()
	r := &c.record
	r.Sent, r.Received, r.Lost, r.AuthFail, r.Concealed = m.Sent, m.Received, m.Lost, m.AuthFail, m.Concealed
	r.JitterMS, r.RoundTrip, r.Xruns = m.JitterMS, m.RoundTrip, m.Xruns
	r.End, r.Reason = time.Now().UTC(), reason
	p.mu.Lock()
	p.call = nil
	p.mu.Unlock()
	p.emit(Event{Kind: Ended, Peer: r.Peer, Reason: reason, Emergency: c.emergency, Call: r})
	close(c.gone)
	p.work.Done()
}

func (p *Phone) current() (*call, *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.call, p.link
}

// Dial calls number, a number or user part of the own domain. It returns
// once the call has begun; what becomes of it arrives as events.
func (p *Phone) Dial(ctx context.Context, number string) error {
	if !dialable(strings.ReplaceAll(number, "#", "")) || len(number) > 32 {
		return ErrNumber
	}
	target := p.aor(strings.ReplaceAll(number, "#", "%23"))
	c := newCall(target.Addr(), true)
	c.emergency = p.emergency(number)
	l, callCtx, err := p.take(c)
	if err != nil {
		return err
	}
	port, err := p.cfg.Media.Reserve(ctx)
	if err != nil {
		p.finish(c, reasonRefused)
		return err
	}
	offer, err := sdp.NewOffer(p.mediaAddr(l, port), p.cfg.Policy, rand.Uint64())
	if err != nil {
		p.finish(c, reasonRefused)
		return err
	}
	go func() {
		reason := reasonRefused
		defer func() { p.finish(c, reason) }()
		defer p.survive("outgoing call")
		reason = p.outgoing(callCtx, c, l, target, offer)
	}()
	return nil
}

// survive keeps a message that breaks our code from ending the process.
func (p *Phone) survive(where string) {
	if r := recover(); r != nil {
		p.cfg.Log.Error("recovered", "in", where, "panic", r, "stack", string(debug.Stack()))
	}
}

func (p *Phone) mediaAddr(l *link, port uint16) netip.AddrPort {
	if p.cfg.MediaAddr.IsValid() {
		return netip.AddrPortFrom(p.cfg.MediaAddr, port)
	}
	local, err := netip.ParseAddrPort(l.LocalAddr().String())
	if err != nil { // a TCP connection always has one
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(local.Addr().Unmap(), port)
}

// Answer takes the ringing call. Nothing but this call answers: headers that
// ask for automatic answering are ignored.
func (p *Phone) Answer() error {
	c, _ := p.current()
	if c == nil || c.record.Outgoing {
		return ErrNoCall
	}
	select {
	case c.answer <- struct{}{}:
	default: // already answered
	}
	return nil
}

// Hangup ends the call in whatever state it is: it cancels, rejects or hangs up.
func (p *Phone) Hangup() error { return p.end(reasonHangup) }

// Reject is Hangup for a ringing call.
func (p *Phone) Reject() error { return p.end(reasonRefused) }

// MediaLost ends the call because its media process died or hears nothing.
func (p *Phone) MediaLost() error { return p.end(reasonMediaLost) }

func (p *Phone) end(reason string) error {
	c, _ := p.current()
	if c == nil {
		return ErrNoCall
	}
	select {
	case c.stop <- reason:
	default: // it is ending already
	}
	return nil
}

// start begins the media of an agreed stream.
func (p *Phone) start(ctx context.Context, c *call, s sdp.Stream) error {
	c.record.Codec, c.record.Suite, c.record.Answered = string(s.Codec), string(s.Suite), time.Now().UTC()
	if err := p.cfg.Media.Start(ctx, s); err != nil {
		p.cfg.Log.Error("media does not start", "error", err)
		return err
	}
	p.emit(Event{Kind: Answered, Peer: c.record.Peer, Emergency: c.emergency, Codec: c.record.Codec, Suite: c.record.Suite})
	return nil
}

// talk waits for the end of an answered call and says BYE if it is ours.
func (p *Phone) talk(ctx context.Context, c *call) string {
	reason := reasonHangup
	select {
	case <-c.bye:
		return reasonPeerHangup
	case reason = <-c.stop:
	case <-ctx.Done():
	}
	p.sayBye(c)
	return reason
}

// sayBye uses the connection of now, which may not be the one of the INVITE.
func (p *Phone) sayBye(c *call) {
	_, l := p.current()
	d := c.getDialog()
	if l == nil || d == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := p.client.Do(ctx, d.request(sip.BYE, l), sipgo.ClientRequestAddVia); err != nil {
		p.cfg.Log.Warn("BYE was not answered", "error", err)
	}
}
