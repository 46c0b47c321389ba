package packet

import "time"

// Receiver keeps the reception statistics of one incoming stream, RFC 3550
// appendices A.1, A.3 and A.8, over authenticated packets only.
type Receiver struct {
	rate     uint32
	started  bool
	ssrc     uint32
	base     uint32 // first extended sequence number
	top      uint32 // highest extended sequence number
	received uint32
	before   lossCount // at the last report
	sum      lossCount // of earlier sources
	transit  uint32    // arrival minus timestamp, both in ticks modulo 2^32
	jitter   float64   // in ticks
	lastSR   uint32
	srAt     time.Time
}

type lossCount struct{ expected, received uint64 }

// NewReceiver makes one for an RTP clock of rate Hz.
func NewReceiver(rate uint32) *Receiver { return &Receiver{rate: rate} }

// Update counts one packet that arrived at now. A new SSRC starts over and
// keeps the totals.
func (r *Receiver) Update(p Packet, now time.Time) {
	transit := r.ticks(now) - p.Timestamp
	if !r.started || p.SSRC != r.ssrc {
		r.restart(p, transit)
		return
	}
	if step := p.Seq - uint16(r.top); step < 1<<15 {
		r.top += uint32(step)
	}
	r.received++
	d := int64(int32(transit - r.transit))
	r.transit = transit
	r.jitter += (float64(max(d, -d)) - r.jitter) / 16 // RFC 3550 A.8
}

// ticks is now on the RTP clock, modulo 2^32.
func (r *Receiver) ticks(now time.Time) uint32 {
	return uint32(now.Unix())*r.rate + uint32(int64(now.Nanosecond())*int64(r.rate)/1e9)
}

func (r *Receiver) restart(p Packet, transit uint32) {
	if r.started {
		t := r.totals()
		r.sum.expected += t.expected
		r.sum.received += t.received
	}
	r.started, r.ssrc, r.transit = true, p.SSRC, transit
	r.base, r.top, r.received = uint32(p.Seq), uint32(p.Seq), 1
	r.before, r.jitter, r.lastSR, r.srAt = lossCount{}, 0, 0, time.Time{}
}

func (r *Receiver) totals() lossCount {
	if !r.started {
		return lossCount{}
	}
	return lossCount{uint64(r.top-r.base) + 1, uint64(r.received)}
}

// Received is the number of packets of the whole call.
func (r *Receiver) Received() uint64 { return r.sum.received + r.totals().received }

// Lost is the number of packets that never came, of the whole call.
func (r *Receiver) Lost() uint64 {
	t := r.totals()
	expected, received := r.sum.expected+t.expected, r.sum.received+t.received
	return expected - min(received, expected) // a packet sent twice counts twice
}

// Jitter is the interarrival jitter of RFC 3550 6.4.1.
func (r *Receiver) Jitter() time.Duration {
	return time.Duration(r.jitter * float64(time.Second) / float64(r.rate))
}
