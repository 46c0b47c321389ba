package sip

import (
	"context"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"ringfence/firmware/sdp"
)

// outgoing runs a call that we make; it returns the reason of its end.
func (p *Phone) outgoing(ctx context.Context, c *call, l *link, target sip.Uri, offer *sdp.Offer) string {
	req := p.invite(l, target, offer)
	tx, err := p.client.TransactionRequest(ctx, req, sipgo.ClientRequestBuild)
	if err != nil {
		p.cfg.Log.Warn("INVITE not sent", "error", err)
		return reasonRefused
	}
	defer tx.Terminate()
	c.record.CallID = req.CallID().Value()
	res, reason := p.awaitFinal(ctx, c, l, req, tx)
	if res == nil {
		return reason
	}
	if !res.IsSuccess() {
		p.cfg.Log.Info("call refused", "code", res.StatusCode, "reason", res.Reason)
		if reason != "" {
			return reason
		}
		return failureReason(res.StatusCode)
	}
	d, err := dialogFromResponse(req, res)
	if err != nil {
		p.cfg.Log.Warn("answer refused", "error", err)
		return reasonRefused
	}
	c.setDialog(d)
	p.acknowledge(d, l, tx)
	if reason != "" { // answered while we gave up: RFC 3261 section 9.1
		p.sayBye(c)
		return reason
	}
	stream, err := offer.Accept(res.Body())
	if err == nil {
		err = p.start(ctx, c, stream)
	}
	if err != nil {
		p.cfg.Log.Warn("answer refused", "error", err)
		p.sayBye(c)
		return reasonRefused
	}
	return p.talk(ctx, c)
}

func (p *Phone) invite(l *link, target sip.Uri, offer *sdp.Offer) *sip.Request {
	req := sip.NewRequest(sip.INVITE, target)
	from := &sip.FromHeader{DisplayName: p.cfg.Display, Address: p.aor(p.cfg.User)}
	from.Params.Add("tag", sip.GenerateTagN(16))
	id := sip.CallIDHeader(sip.GenerateTagN(24))
	for _, h := range []sip.Header{from, &sip.ToHeader{Address: target}, &id, &sip.CSeqHeader{SeqNo: 1, MethodName: sip.INVITE},
		p.contact(), sip.NewHeader("Allow", allowed), sip.NewHeader("Content-Type", "application/sdp")} {
		req.AppendHeader(h)
	}
	req.SetBody(offer.Bytes())
	route(req, l)
	return req
}

// awaitFinal waits for the final response. When a person hangs up or nobody
// answers it cancels, once a provisional response allows that (RFC 3261
// section 9.1), and returns the reason beside what came in the end.
func (p *Phone) awaitFinal(ctx context.Context, c *call, l *link, req *sip.Request, tx sip.ClientTransaction) (*sip.Response, string) {
	limit := time.NewTimer(p.cfg.RingLimit)
	defer limit.Stop()
	reason, provisional, ringing, cancelled := "", false, false, false
	stop, done := c.stop, ctx.Done()
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return res, reason
			}
			if !ringing && res.StatusCode >= 180 {
				ringing = true
				p.emit(Event{Kind: RingingOut, Peer: c.record.Peer, Emergency: c.emergency})
			}
			provisional = true
		case <-tx.Done():
			if reason == "" {
				reason = reasonRefused
			}
			return nil, reason
		case reason = <-stop:
			stop = nil
		case <-done:
			reason, done = reasonHangup, nil
		case <-limit.C:
			if reason != "" {
				return nil, reason
			}
			reason = reasonNoAnswer
		}
		if reason != "" && provisional && !cancelled {
			cancelled, stop, done = true, nil, nil
			limit.Reset(5 * time.Second)
			p.cancel(l, req)
		}
	}
}

func (p *Phone) cancel(l *link, invite *sip.Request) {
	req := sip.NewRequest(sip.CANCEL, invite.Recipient)
	hops := sip.MaxForwardsHeader(70)
	for _, h := range []sip.Header{sip.HeaderClone(invite.Via()), sip.HeaderClone(invite.From()), sip.HeaderClone(invite.To()),
		sip.HeaderClone(invite.CallID()), &hops, &sip.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: sip.CANCEL}} {
		req.AppendHeader(h)
	}
	req.SetBody(nil)
	route(req, l)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := p.client.Do(ctx, req, asIs); err != nil {
		p.cfg.Log.Warn("CANCEL was not answered", "error", err)
	}
}

// asIs keeps sipgo from completing a request that is complete.
func asIs(*sipgo.Client, *sip.Request) error { return nil }

// acknowledge sends the ACK, and again whenever the 200 is repeated.
func (p *Phone) acknowledge(d *dialog, l *link, tx sip.ClientTransaction) {
	ack := d.request(sip.ACK, l)
	send := func() {
		if err := p.client.WriteRequest(ack.Clone(), sipgo.ClientRequestAddVia); err != nil {
			p.cfg.Log.Warn("ACK not sent", "error", err)
		}
	}
	tx.OnRetransmission(func(r *sip.Response) {
		if r.IsSuccess() {
			send()
		}
	})
	send()
}

func failureReason(code int) string {
	switch code {
	case 486, 600:
		return reasonBusy
	case 408, 480, 487:
		return reasonNoAnswer
	}
	return reasonRefused
}
