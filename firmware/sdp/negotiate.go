package sdp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"ringfence/provisioning/wire/lock"
)

// eventPayload is the payload type we offer for telephone-event (RFC 4733).
const eventPayload = 101

// Offer is our offer and the keys in it, until it is answered.
type Offer struct {
	local  netip.AddrPort
	policy Policy
	keys   []crypto
	id     uint64
}

// NewOffer draws one fresh key per suite. local is where we receive; id names
// the session and should be random (RFC 4566 section 5.2).
func NewOffer(local netip.AddrPort, p Policy, id uint64) (*Offer, error) {
	if err := checkLocal(local, p); err != nil {
		return nil, err
	}
	o := &Offer{local: local, policy: p, id: id >> 2}
	for i, s := range p.Suites {
		o.keys = append(o.keys, newCrypto(uint32(i+1), s))
	}
	return o, nil
}

func checkLocal(local netip.AddrPort, p Policy) error {
	if !local.IsValid() || local.Port() == 0 || local.Addr().IsUnspecified() {
		return fmt.Errorf("local media address %v: %w", local, ErrAddress)
	}
	return p.check()
}

// Bytes is the offer as sent.
func (o *Offer) Bytes() []byte {
	var b strings.Builder
	writeHead(&b, o.local, o.id)
	fmt.Fprintf(&b, "m=audio %d RTP/SAVP", o.local.Port())
	for _, c := range o.policy.Codecs {
		pt, _ := payloadType(c)
		fmt.Fprintf(&b, " %d", pt)
	}
	fmt.Fprintf(&b, " %d\r\n", eventPayload)
	for _, k := range o.keys {
		b.WriteString(k.line())
	}
	for _, c := range o.policy.Codecs {
		pt, _ := payloadType(c)
		fmt.Fprintf(&b, "a=rtpmap:%d %s/8000\r\n", pt, c)
	}
	writeEvent(&b, eventPayload)
	writeTail(&b, SendRecv, true)
	return []byte(b.String())
}

// Accept checks the answer and returns the agreed stream. The answer must
// choose one of our crypto lines and bring a key of its own.
func (o *Offer) Accept(answer []byte) (Stream, error) {
	m, err := parse(answer)
	if err != nil {
		return Stream{}, fmt.Errorf("answer: %w", err)
	}
	if len(m.lines) != 1 { // RFC 3264 section 6
		return Stream{}, fmt.Errorf("answer with %d streams to an offer of 1: %w", len(m.lines), ErrMalformed)
	}
	if len(m.crypto) != 1 || m.why != nil { // RFC 4568 section 5.1.2
		return Stream{}, fmt.Errorf("answer with %d usable crypto lines, want exactly 1: %w", len(m.crypto), ErrNoSuite)
	}
	theirs := m.crypto[0]
	for _, ours := range o.keys {
		if ours.tag == theirs.tag && ours.suite == theirs.suite {
			return agree(o.policy, m, ours, theirs)
		}
	}
	return Stream{}, fmt.Errorf("answer takes crypto line %d %s that was not offered: %w", theirs.tag, theirs.suite, ErrNoSuite)
}

// Answer answers a peer's offer from local by our policy.
func Answer(offer []byte, local netip.AddrPort, p Policy, id uint64) ([]byte, Stream, error) {
	if err := checkLocal(local, p); err != nil {
		return nil, Stream{}, err
	}
	m, err := parse(offer)
	if err != nil {
		return nil, Stream{}, fmt.Errorf("offer: %w", err)
	}
	theirs, err := chooseCrypto(p, m.crypto)
	if err != nil {
		if m.why != nil {
			err = fmt.Errorf("%w (last line: %v)", err, m.why)
		}
		return nil, Stream{}, fmt.Errorf("offer: %w", err)
	}
	ours := newCrypto(theirs.tag, theirs.suite)
	s, err := agree(p, m, ours, theirs)
	if err != nil {
		return nil, Stream{}, fmt.Errorf("offer: %w", err)
	}
	return writeAnswer(m, s, ours, local, id>>2), s, nil
}

func agree(p Policy, m audio, ours, theirs crypto) (Stream, error) {
	codec, pt, err := chooseCodec(p, m)
	if err != nil {
		return Stream{}, err
	}
	if m.maxptime != 0 && m.maxptime < 20 {
		return Stream{}, fmt.Errorf("maxptime %d ms, packets are 20 ms: %w", m.maxptime, ErrNoCodec)
	}
	// A reflected key would make both directions one key stream.
	if bytes.Equal(ours.key, theirs.key) {
		return Stream{}, fmt.Errorf("peer returned our own key: %w", ErrNoSuite)
	}
	return Stream{Codec: codec, PayloadType: pt, EventType: m.eventType(), Remote: m.remote, Suite: lock.Suite(theirs.suite),
		LocalKey: ours.key, RemoteKey: theirs.key, Direction: m.direction.reverse(), RTCPMux: m.mux}, nil
}

// writeAnswer repeats every m= line of the offer in order, all but ours with
// port 0 (RFC 3264 section 6).
func writeAnswer(m audio, s Stream, ours crypto, local netip.AddrPort, id uint64) []byte {
	var b strings.Builder
	writeHead(&b, local, id)
	for i, line := range m.lines {
		if i != m.index {
			fmt.Fprintf(&b, "m=%s\r\n", line)
			continue
		}
		fmt.Fprintf(&b, "m=audio %d RTP/SAVP %d", local.Port(), s.PayloadType)
		if s.EventType != 0 {
			fmt.Fprintf(&b, " %d", s.EventType)
		}
		b.WriteString("\r\n" + ours.line())
		fmt.Fprintf(&b, "a=rtpmap:%d %s/8000\r\n", s.PayloadType, s.Codec)
		if s.EventType != 0 {
			writeEvent(&b, s.EventType)
		}
		writeTail(&b, s.Direction, s.RTCPMux)
	}
	return []byte(b.String())
}

func writeHead(b *strings.Builder, local netip.AddrPort, id uint64) {
	family := "IP4"
	if local.Addr().Unmap().Is6() {
		family = "IP6"
	}
	ip := local.Addr().Unmap()
	fmt.Fprintf(b, "v=0\r\no=- %d 1 IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n", id, family, ip, family, ip)
}

func writeEvent(b *strings.Builder, pt uint8) {
	fmt.Fprintf(b, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-15\r\n", pt, pt)
}

func writeTail(b *strings.Builder, d Direction, mux bool) {
	fmt.Fprintf(b, "a=ptime:20\r\na=%s\r\n", d)
	if mux {
		b.WriteString("a=rtcp-mux\r\n")
	}
}
