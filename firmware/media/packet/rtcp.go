package packet

import (
	"fmt"
	"time"

	"github.com/pion/rtcp"
)

// MaxRTCP bounds a compound packet that is read or written, in bytes.
const MaxRTCP = 1200

// Report is what a peer's compound packet told about our stream.
type Report struct {
	Bye       bool
	RoundTrip time.Duration // 0 = unknown
	Lost      uint8         // our packets lost on the way to the peer, in 1/256
}

// ntp is the 64-bit NTP format, RFC 3550 4.
func ntp(t time.Time) uint64 {
	const toUnix = 2208988800 // seconds from 1900 to 1970
	return uint64(t.Unix()+toUnix)<<32 | uint64(t.Nanosecond())<<32/1e9
}

// Compound builds a sender report (a receiver report while nothing was sent)
// with a CNAME, RFC 3550 6.1; with bye it ends the stream (6.6). cname must be
// 1 to 255 bytes and should tell nothing about the phone (RFC 7022).
func Compound(s *Sender, r *Receiver, cname string, bye bool, now time.Time) ([]byte, error) {
	var blocks []rtcp.ReceptionReport
	if r.started {
		blocks = []rtcp.ReceptionReport{r.block(now)}
	}
	out := make([]rtcp.Packet, 0, 3)
	if s.packets > 0 {
		out = append(out, &rtcp.SenderReport{SSRC: s.ssrc, NTPTime: ntp(now), RTPTime: s.timestamp,
			PacketCount: s.packets, OctetCount: s.octets, Reports: blocks})
	} else {
		out = append(out, &rtcp.ReceiverReport{SSRC: s.ssrc, Reports: blocks})
	}
	out = append(out, rtcp.NewCNAMESourceDescription(s.ssrc, cname))
	if bye {
		out = append(out, &rtcp.Goodbye{Sources: []uint32{s.ssrc}})
	}
	b, err := rtcp.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("build RTCP: %w", err)
	}
	return b, nil
}

// block is our report about the peer's stream and closes the interval.
func (r *Receiver) block(now time.Time) rtcp.ReceptionReport {
	t := r.totals()
	expected, received := t.expected-r.before.expected, t.received-r.before.received
	r.before = t
	b := rtcp.ReceptionReport{SSRC: r.ssrc, LastSequenceNumber: r.top, Jitter: uint32(r.jitter), LastSenderReport: r.lastSR}
	if expected > received {
		b.FractionLost = uint8(min((expected-received)<<8/expected, 255))
	}
	if t.expected > t.received {
		b.TotalLost = uint32(min(t.expected-t.received, 1<<23-1)) // 24-bit signed
	}
	if !r.srAt.IsZero() {
		b.Delay = uint32(now.Sub(r.srAt).Seconds() * 65536)
	}
	return b
}

// ReadCompound reads an authenticated compound packet that arrived at now. It
// must begin with a report (RFC 3550 6.1).
func ReadCompound(b []byte, s *Sender, r *Receiver, now time.Time) (Report, error) {
	if len(b) > MaxRTCP {
		return Report{}, fmt.Errorf("RTCP of %d bytes: %w", len(b), ErrMalformed)
	}
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return Report{}, fmt.Errorf("read RTCP: %w: %w", ErrMalformed, err)
	}
	var out Report
	for i, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			r.lastSR, r.srAt = uint32(p.NTPTime>>16), now
			out.take(p.Reports, s.ssrc, now)
		case *rtcp.ReceiverReport:
			out.take(p.Reports, s.ssrc, now)
		case *rtcp.Goodbye:
			out.Bye = true
		}
		if i == 0 && !isReport(p) {
			return Report{}, fmt.Errorf("RTCP begins with %T: %w", p, ErrMalformed)
		}
	}
	return out, nil
}

func isReport(p rtcp.Packet) bool {
	switch p.(type) {
	case *rtcp.SenderReport, *rtcp.ReceiverReport:
		return true
	}
	return false
}

// take finds the block about our stream. The round trip is A - LSR - DLSR in
// 1/65536 s, RFC 3550 6.4.1.
func (o *Report) take(blocks []rtcp.ReceptionReport, ssrc uint32, now time.Time) {
	for _, b := range blocks {
		if b.SSRC != ssrc {
			continue
		}
		o.Lost = b.FractionLost
		if b.LastSenderReport == 0 {
			continue
		}
		if rtt := int32(uint32(ntp(now)>>16) - b.LastSenderReport - b.Delay); rtt >= 0 {
			o.RoundTrip = max(time.Duration(rtt)*time.Second/65536, 1)
		}
	}
}
