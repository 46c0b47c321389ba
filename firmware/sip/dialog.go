package sip

import (
	"errors"

	"github.com/emiago/sipgo/sip"
)

// dialog is the state of RFC 3261 section 12. It is owned by its call.
type dialog struct {
	callID              string
	localTag, remoteTag string
	from, to            sip.Header // of our requests
	localSeq, remoteSeq uint32
	target              sip.Uri
	routes              []string // first hop first
}

// dialogFromResponse is the caller's half (RFC 3261 12.1.2).
func dialogFromResponse(req *sip.Request, res *sip.Response) (*dialog, error) {
	local, _ := req.From().Params.Get("tag")
	remote, _ := res.To().Params.Get("tag")
	contact := res.Contact()
	if remote == "" || contact == nil {
		return nil, errors.New("200 without To tag or Contact")
	}
	d := &dialog{callID: req.CallID().Value(), localTag: local, remoteTag: remote, localSeq: req.CSeq().SeqNo,
		from: sip.HeaderClone(req.From()), to: sip.HeaderClone(res.To()), target: contact.Address}
	routes := res.GetHeaders("Record-Route")
	for i := len(routes) - 1; i >= 0; i-- {
		d.routes = append(d.routes, routes[i].Value())
	}
	return d, nil
}

// dialogFromRequest is the called half (RFC 3261 12.1.1).
func dialogFromRequest(req *sip.Request, localTag string) (*dialog, error) {
	remote, _ := req.From().Params.Get("tag")
	contact := req.Contact()
	if remote == "" || contact == nil {
		return nil, errors.New("INVITE without From tag or Contact")
	}
	from, to := req.To().AsFrom(), req.From().AsTo()
	from.Params = from.Params.Clone()
	from.Params.Add("tag", localTag)
	d := &dialog{callID: req.CallID().Value(), localTag: localTag, remoteTag: remote, remoteSeq: req.CSeq().SeqNo,
		from: &from, to: &to, target: contact.Address}
	for _, r := range req.GetHeaders("Record-Route") {
		d.routes = append(d.routes, r.Value())
	}
	return d, nil
}

// request builds the next request of the dialog; an ACK repeats the number of
// its INVITE (RFC 3261 13.2.2.4).
func (d *dialog) request(method sip.RequestMethod, l *link) *sip.Request {
	if method != sip.ACK {
		d.localSeq++
	}
	req := sip.NewRequest(method, d.target)
	id, hops := sip.CallIDHeader(d.callID), sip.MaxForwardsHeader(70)
	for _, h := range []sip.Header{sip.HeaderClone(d.from), sip.HeaderClone(d.to), &id, &hops,
		&sip.CSeqHeader{SeqNo: d.localSeq, MethodName: method}} {
		req.AppendHeader(h)
	}
	for _, r := range d.routes {
		req.AppendHeader(sip.NewHeader("Route", r))
	}
	req.SetBody(nil)
	route(req, l)
	return req
}

// owns reports whether req, sent by the peer, belongs to d.
func (d *dialog) owns(req *sip.Request) bool {
	from, _ := req.From().Params.Get("tag")
	to, _ := req.To().Params.Get("tag")
	return req.CallID().Value() == d.callID && from == d.remoteTag && to == d.localTag
}
