package packet

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/pion/rtp"
)

func sender(t testing.TB) *Sender {
	t.Helper()
	s, err := NewSender(9, 0xabcd, 65534, math.MaxUint32-100)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSenderNumbers(t *testing.T) {
	s := sender(t)
	for i, want := range []struct {
		seq    uint16
		ts     uint32
		marker bool
	}{{65534, math.MaxUint32 - 100, true}, {65535, 59, false}, {0, 379, true}, {1, 539, false}} {
		if i == 2 {
			s.Skip(160)
		}
		b := make([]byte, HeaderSize)
		if err := s.Next(b, 160, 160); err != nil {
			t.Fatal(err)
		}
		p, err := Parse(b)
		if err != nil || p.Seq != want.seq || p.Timestamp != want.ts || p.Marker != want.marker || p.SSRC != 0xabcd || p.PayloadType != 9 {
			t.Errorf("packet %d = %+v, %v, want %+v", i, p, err, want)
		}
	}
	if _, err := NewSender(72, 1, 1, 1); !errors.Is(err, ErrConfig) {
		t.Errorf("NewSender(payload type 72) = %v, want ErrConfig", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": nil, "short": make([]byte, 11), "version 1": append([]byte{0x40}, make([]byte, 11)...),
		"CSRCs past the end": append([]byte{0x81}, make([]byte, 11)...),
		"extension past":     append([]byte{0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}, make([]byte, 8)...),
		"padding zero":       append([]byte{0xa0}, make([]byte, 20)...),
		"padding too long":   append(append([]byte{0xa0}, make([]byte, 20)...), 11),
	} {
		if p, err := Parse(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Parse = %+v, %v, want ErrMalformed", name, p, err)
		}
	}
}

func TestParseAgainstPion(t *testing.T) {
	in := rtp.Packet{Header: rtp.Header{Version: 2, Padding: true, Marker: true, PayloadType: 8, SequenceNumber: 7, Timestamp: 9,
		SSRC: 11, CSRC: []uint32{1, 2}, PaddingSize: 4}, Payload: []byte("sound")}
	if err := in.Header.SetExtension(1, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	b, err := in.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(b)
	if err != nil || !bytes.Equal(p.Payload, in.Payload) || p.Seq != 7 || p.Timestamp != 9 || p.SSRC != 11 || !p.Marker || p.PayloadType != 8 {
		t.Errorf("Parse = %+v, %v, want %+v", p, err, in)
	}
}

// RFC 3550 A.3 and A.8: loss and jitter.
func TestReceiverStatistics(t *testing.T) {
	r, now := NewReceiver(8000), time.Unix(1000, 0)
	for i := range 1000 {
		if i%10 == 3 {
			continue
		}
		at := now.Add(time.Duration(i) * 20 * time.Millisecond)
		if i%2 == 1 {
			at = at.Add(5 * time.Millisecond)
		}
		r.Update(Packet{SSRC: 1, Seq: uint16(65000 + i), Timestamp: uint32(i * 160)}, at)
	}
	if r.Received() != 900 || r.Lost() != 100 {
		t.Errorf("received %d, lost %d, want 900, 100", r.Received(), r.Lost())
	}
	if j := r.Jitter(); j < 4*time.Millisecond || j > 5*time.Millisecond {
		t.Errorf("jitter = %v, want 4 to 5 ms", j)
	}
	if b := r.block(now); b.FractionLost != 25 || b.TotalLost != 100 || b.LastSequenceNumber != 65000+999 {
		t.Errorf("block = %+v, want 25/256 lost, 100 in all", b)
	}
	r.Update(Packet{SSRC: 2, Seq: 1}, now)
	if r.Received() != 901 || r.Lost() != 100 {
		t.Errorf("after a new source: received %d, lost %d, want 901, 100", r.Received(), r.Lost())
	}
}

// RFC 3550 6.4.1: two peers, 30 ms each way, 100 ms between the reports.
func TestRoundTrip(t *testing.T) {
	now := time.Unix(1_700_000_000, 123456789)
	a, b := sender(t), sender(t)
	a.ssrc, b.ssrc = 1, 2
	ra, rb := NewReceiver(8000), NewReceiver(8000)
	_ = a.Next(make([]byte, HeaderSize), 160, 160)
	_ = b.Next(make([]byte, HeaderSize), 160, 160)
	rb.Update(Packet{SSRC: 1, Seq: 1}, now)
	one, err := Compound(a, ra, "x", false, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCompound(one, b, rb, now.Add(30*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	two, err := Compound(b, rb, "y", true, now.Add(130*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadCompound(two, a, ra, now.Add(160*time.Millisecond))
	if err != nil || !got.Bye || (got.RoundTrip-60*time.Millisecond).Abs() > time.Millisecond {
		t.Errorf("ReadCompound = %+v, %v, want BYE and 60 ms", got, err)
	}
}

func TestReadCompoundRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": nil, "cut": {0x80, 200, 0, 6, 0, 0}, "huge": make([]byte, MaxRTCP+1),
		"BYE first": {0x81, 203, 0, 1, 0, 0, 0, 1},
	} {
		if r, err := ReadCompound(b, sender(t), NewReceiver(8000), time.Now()); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: ReadCompound = %+v, %v, want ErrMalformed", name, r, err)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	s, r, b, now := sender(t), NewReceiver(8000), make([]byte, 172), time.Now()
	if n := testing.AllocsPerRun(100, func() {
		_ = s.Next(b, 160, 160)
		p, _ := Parse(b)
		r.Update(p, now)
	}); n != 0 {
		t.Errorf("%v allocations per packet, want 0", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x80, 9, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3})
	f.Add([]byte{0xb1, 9, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := Parse(b); err == nil && len(p.Payload) > len(b)-HeaderSize {
			t.Errorf("payload of %d bytes in %d", len(p.Payload), len(b))
		}
	})
}

func FuzzReadCompound(f *testing.F) {
	s := sender(f)
	b, err := Compound(s, NewReceiver(8000), "x", true, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ReadCompound(b, s, NewReceiver(8000), time.Unix(1, 0)); err == nil && r.RoundTrip < 0 {
			t.Errorf("round trip %v", r.RoundTrip)
		}
	})
}
