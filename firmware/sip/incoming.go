package sip

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"ringfence/firmware/sdp"
)

const allowed = "INVITE, ACK, CANCEL, BYE, OPTIONS"

// handle registers the handlers. Each survives a message that breaks it.
func (p *Phone) handle(srv *sipgo.Server) {
	for method, h := range map[sip.RequestMethod]sipgo.RequestHandler{
		sip.INVITE: p.onInvite, sip.ACK: p.onAck, sip.BYE: p.onBye,
		sip.OPTIONS: func(req *sip.Request, tx sip.ServerTransaction) { p.respond(req, tx, 200, "OK") },
		sip.CANCEL:  func(req *sip.Request, tx sip.ServerTransaction) { p.respond(req, tx, 481, "No such transaction") },
	} {
		srv.OnRequest(method, func(req *sip.Request, tx sip.ServerTransaction) {
			defer p.survive(string(method))
			h(req, tx)
		})
	}
	srv.OnNoRoute(func(req *sip.Request, tx sip.ServerTransaction) {
		defer p.survive("unknown method")
		p.respond(req, tx, 405, "Method Not Allowed")
	})
}

func (p *Phone) respond(req *sip.Request, tx sip.ServerTransaction, code int, reason string, extra ...sip.Header) {
	res := sip.NewResponseFromRequest(req, code, reason, nil)
	res.AppendHeader(sip.NewHeader("Allow", allowed))
	for _, h := range extra {
		res.AppendHeader(h)
	}
	if err := tx.Respond(res); err != nil {
		p.cfg.Log.Warn("response not sent", "code", code, "error", err)
	}
}

// onInvite is an incoming call from first to last. sipgo keeps the server
// transaction until it returns.
func (p *Phone) onInvite(req *sip.Request, tx sip.ServerTransaction) {
	if _, inDialog := req.To().Params.Get("tag"); inDialog {
		p.onReInvite(req, tx)
		return
	}
	if h := req.GetHeader("Require"); h != nil { // RFC 3261 8.2.2.3
		p.respond(req, tx, 420, "Bad Extension", sip.NewHeader("Unsupported", h.Value()))
		return
	}
	ct := req.ContentType()
	if ct == nil || !strings.EqualFold(strings.TrimSpace(ct.Value()), "application/sdp") {
		p.respond(req, tx, 488, "Offer wanted in INVITE")
		return
	}
	c := newCall(req.From().Address.Addr(), false)
	c.record.CallID = req.CallID().Value()
	l, ctx, err := p.take(c)
	if err != nil {
		p.respond(req, tx, 486, "Busy Here")
		return
	}
	reason := reasonRefused
	defer func() { p.finish(c, reason) }()
	defer p.survive("incoming call")
	reason = p.incoming(ctx, c, l, req, tx)
}

// incoming agrees on the stream before anything rings.
func (p *Phone) incoming(ctx context.Context, c *call, l *link, req *sip.Request, tx sip.ServerTransaction) string {
	cancelled := make(chan struct{})
	tx.OnCancel(func(*sip.Request) { close(cancelled) })
	port, err := p.cfg.Media.Reserve(ctx)
	if err != nil {
		p.cfg.Log.Error("media not ready", "error", err)
		p.respond(req, tx, 480, "Temporarily Unavailable")
		return reasonRefused
	}
	body, stream, err := sdp.Answer(req.Body(), p.mediaAddr(l, port), p.cfg.Policy, rand.Uint64())
	if err != nil {
		p.cfg.Log.Warn("offer refused", "error", err)
		p.respond(req, tx, 488, "Not Acceptable Here")
		return reasonRefused
	}
	ringing := sip.NewResponseFromRequest(req, 180, "Ringing", nil)
	localTag, _ := ringing.To().Params.Get("tag")
	d, err := dialogFromRequest(req, localTag)
	if err != nil || localTag == "" {
		p.respond(req, tx, 400, "Bad Request")
		return reasonRefused
	}
	ringing.AppendHeader(p.contact())
	if err := tx.Respond(ringing); err != nil {
		return reasonRefused
	}
	p.emit(Event{Kind: RingingIn, Peer: c.record.Peer})
	if end := p.awaitPerson(ctx, c, req, tx, cancelled); end != "" {
		return end
	}
	c.setDialog(d)
	return p.accept(ctx, c, ringing, body, stream, req, tx)
}

// awaitPerson rings until a person decides; "" means answer.
func (p *Phone) awaitPerson(ctx context.Context, c *call, req *sip.Request, tx sip.ServerTransaction, cancelled <-chan struct{}) string {
	limit := time.NewTimer(p.cfg.RingLimit)
	defer limit.Stop()
	select {
	case <-c.answer:
		return ""
	case reason := <-c.stop:
		p.respond(req, tx, 486, "Busy Here")
		return reason
	case <-cancelled: // sipgo has answered 487
		return reasonPeerHangup
	case <-tx.Done():
		return reasonPeerHangup
	case <-limit.C:
		p.respond(req, tx, 480, "No answer")
		return reasonNoAnswer
	case <-ctx.Done():
		p.respond(req, tx, 480, "Going down")
		return reasonHangup
	}
}

// accept starts the media, answers and repeats the 200 until the ACK (RFC
// 3261 section 13.3.1.4).
func (p *Phone) accept(ctx context.Context, c *call, ringing *sip.Response, body []byte, s sdp.Stream, req *sip.Request, tx sip.ServerTransaction) string {
	if err := p.start(ctx, c, s); err != nil {
		p.respond(req, tx, 500, "Media does not start")
		return reasonRefused
	}
	ok := sip.NewResponseFromRequest(req, 200, "OK", body)
	ok.ReplaceHeader(sip.HeaderClone(ringing.To()))
	ok.AppendHeader(p.contact())
	ok.AppendHeader(sip.NewHeader("Allow", allowed))
	ok.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	if err := tx.Respond(ok); err != nil {
		p.cfg.Log.Warn("200 not sent", "error", err)
		return reasonRefused
	}
	if end := p.awaitAck(ctx, c, ok, tx); end != "" {
		p.sayBye(c)
		return end
	}
	return p.talk(ctx, c)
}

func (p *Phone) awaitAck(ctx context.Context, c *call, ok *sip.Response, tx sip.ServerTransaction) string {
	limit := time.NewTimer(64 * sip.T1)
	defer limit.Stop()
	for wait := sip.T1; ; wait = min(2*wait, sip.T2) {
		select {
		case <-c.acked:
			return ""
		case <-c.bye:
			return ""
		case <-ctx.Done():
			return reasonHangup
		case <-limit.C:
			return reasonRefused
		case <-time.After(wait):
			if err := tx.Respond(ok); err != nil {
				p.cfg.Log.Warn("200 not repeated", "error", err)
			}
		}
	}
}

// inCall returns the call whose dialog owns req.
func (p *Phone) inCall(req *sip.Request) *call {
	c, _ := p.current()
	if c == nil {
		return nil
	}
	if d := c.getDialog(); d == nil || !d.owns(req) {
		return nil
	}
	return c
}

func (p *Phone) onAck(req *sip.Request, _ sip.ServerTransaction) {
	if c := p.inCall(req); c != nil {
		c.ackOnce.Do(func() { close(c.acked) })
	}
}

func (p *Phone) onBye(req *sip.Request, tx sip.ServerTransaction) {
	c := p.inCall(req)
	if c == nil {
		p.respond(req, tx, 481, "Call Does Not Exist")
		return
	}
	c.mu.Lock()
	fresh := req.CSeq().SeqNo > c.dialog.remoteSeq // RFC 3261 12.2.2
	if fresh {
		c.dialog.remoteSeq = req.CSeq().SeqNo
	}
	c.mu.Unlock()
	if !fresh {
		p.respond(req, tx, 500, "CSeq out of order")
		return
	}
	p.respond(req, tx, 200, "OK")
	c.byeOnce.Do(func() { close(c.bye) })
}

// onReInvite declines a change and leaves the session as it is (RFC 3261
// section 14.2).
func (p *Phone) onReInvite(req *sip.Request, tx sip.ServerTransaction) {
	if p.inCall(req) == nil {
		p.respond(req, tx, 481, "Call Does Not Exist")
		return
	}
	p.respond(req, tx, 488, "Not Acceptable Here")
}
