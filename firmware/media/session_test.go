package media

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence/firmware/media/packet"
	"ringfence/firmware/media/secure"
	"ringfence/hal/audio"
	"ringfence/hal/audio/audiotest"
)

// pace makes test calls five times as fast as real ones.
const pace = 4 * time.Millisecond

// end is one half of a test call.
type end struct {
	p    Params
	conn *net.UDPConn
	cap  *audiotest.Capture
	play *audiotest.Playback
}

func key(suite secure.Suite, seed byte) secure.Key {
	n, _ := suite.KeySize()
	k := make(secure.Key, n)
	for i := range k {
		k[i] = seed ^ byte(i*11)
	}
	return k
}

func newEnd(t testing.TB, said []int16, clock audiotest.Clock, script audiotest.Script) *end {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c, err := audiotest.NewCapture(audio.Wideband(), said, clock, script)
	if err != nil {
		t.Fatal(err)
	}
	p, err := audiotest.NewPlayback(audio.Wideband(), 16000*20, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &end{conn: conn, cap: c, play: p}
}

func (e *end) addr() netip.AddrPort { return e.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// call joins two ends without clocks; keys and codec match.
func call(t testing.TB, codec Codec, suite secure.Suite, saidA, saidB []int16) (a, b *end) {
	t.Helper()
	a, b = newEnd(t, saidA, nil, nil), newEnd(t, saidB, nil, nil)
	join(a, b, codec, suite)
	return a, b
}

func join(a, b *end, codec Codec, suite secure.Suite) {
	pt := map[Codec]uint8{G722: 9, PCMU: 0, PCMA: 8}[codec]
	a.p = Params{Codec: codec, PayloadType: pt, Remote: b.addr(), Suite: suite, LocalKey: key(suite, 1), RemoteKey: key(suite, 2), SSRC: 0xa}
	b.p = Params{Codec: codec, PayloadType: pt, Remote: a.addr(), Suite: suite, LocalKey: key(suite, 2), RemoteKey: key(suite, 1), SSRC: 0xb}
}

// start makes the session of an end and attaches it, without its loop.
func (e *end) start(t testing.TB) *Session {
	t.Helper()
	s, err := NewSession(e.p)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.attach(e.conn, e.cap, e.play); err != nil {
		t.Fatal(err)
	}
	return s
}

// talk steps both ends in turn, so that the machine's load changes nothing,
// and returns their statistics.
func talk(t *testing.T, a, b *end, frames int) (sa, sb Stats) {
	t.Helper()
	x, y := a.start(t), b.start(t)
	for range frames {
		if err := errors.Join(x.step(), y.step()); err != nil {
			t.Fatal(err)
		}
	}
	return x.Stats(), y.Stats()
}

// run lets both ends run by their own clocks for d.
func run(t *testing.T, a, b *end, d time.Duration) (sa, sb Stats) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		sb, err = Run(ctx, b.p, b.conn, b.cap, b.play)
		done <- err
	}()
	sa, err := Run(ctx, a.p, a.conn, a.cap, a.play)
	if err = errors.Join(err, <-done); err != nil {
		t.Fatalf("Run = %v", err)
	}
	return sa, sb
}

func TestSpeechArrives(t *testing.T) {
	for _, c := range []struct {
		codec Codec
		suite secure.Suite
	}{{G722, secure.AEADAES256GCM}, {PCMU, secure.AEADAES256GCM}, {PCMA, secure.AESCM128HMACSHA1}} {
		t.Run(fmt.Sprintf("%s/%s", c.codec, c.suite), func(t *testing.T) {
			saidA, saidB := speech(1, 5), speech(2, 5)
			a, b := call(t, c.codec, c.suite, saidA, saidB)
			sa, sb := talk(t, a, b, 275)
			t.Logf("a %v; b %v", sa, sb)
			for _, dir := range []struct {
				name        string
				said, heard []int16
				other       []int16
			}{{"A to B", saidA, b.play.Heard(), saidB}, {"B to A", saidB, a.play.Heard(), saidA}} {
				if got := similar(dir.said, dir.heard); got < 0.9 {
					t.Errorf("%s: %.0f %% of the windows are alike, want 90", dir.name, got*100)
				}
				if got := similar(dir.other, dir.heard); got > 0.3 {
					t.Errorf("%s: %.0f %% of the windows are like the other direction", dir.name, got*100)
				}
			}
			if sa.AuthFail+sb.AuthFail != 0 || sa.Sent < 200 || sb.Received < 200 {
				t.Errorf("a %v; b %v, want clean statistics", sa, sb)
			}
		})
	}
}

// Two loops by their own clocks. The bounds leave room for a busy machine.
func TestRunTwoEnds(t *testing.T) {
	said := speech(4, 5)
	a, b := newEnd(t, said, audiotest.Every(pace), nil), newEnd(t, nil, audiotest.Every(pace), nil)
	join(a, b, G722, secure.AEADAES256GCM)
	sa, sb := run(t, a, b, 1100*time.Millisecond)
	t.Logf("a %v; b %v", sa, sb)
	if got := similar(said, b.play.Heard()); got < 0.6 || sa.Sent < 100 || sb.AuthFail != 0 {
		t.Errorf("%.0f %% of the windows are alike, a %v, b %v", got*100, sa, sb)
	}
}

func TestWrongKeyIsSilence(t *testing.T) {
	a, b := call(t, G722, secure.AEADAES256GCM, speech(1, 2), nil)
	b.p.RemoteKey = key(b.p.Suite, 77)
	_, sb := talk(t, a, b, 100)
	if sb.AuthFail == 0 || sb.Received != 0 || loudest(b.play.Heard()) != 0 {
		t.Errorf("b %v, loudest %d, want only auth failures and silence", sb, loudest(b.play.Heard()))
	}
}

// relayed is a call of 220 frames in which a relay forwards packet i of A to B
// as often as copies says.
func relayed(t *testing.T, said []int16, copies func(i int) int) (Stats, []int16) {
	t.Helper()
	a, b := call(t, G722, secure.AEADAES256GCM, said, nil)
	relay := newEnd(t, nil, nil, nil)
	a.p.Remote, b.p.Remote = relay.addr(), relay.addr()
	x, y, buf := a.start(t), b.start(t), make([]byte, 2000)
	for i := range 220 {
		if err := x.step(); err != nil {
			t.Fatal(err)
		}
		n, from, err := 0, netip.AddrPort{}, error(nil)
		for from != a.addr() && err == nil { // B's packets come here too
			n, from, err = relay.conn.ReadFromUDPAddrPort(buf)
		}
		for range copies(i) {
			_, err = relay.conn.WriteToUDPAddrPort(buf[:n], b.addr())
		}
		if err = errors.Join(err, y.step()); err != nil {
			t.Fatal(err)
		}
	}
	return y.Stats(), b.play.Heard()
}

func TestReplayedPacketsAreDropped(t *testing.T) {
	said := speech(1, 4)
	s, heard := relayed(t, said, func(int) int { return 2 })
	if s.AuthFail != 220 || s.Received != 220 || s.Lost != 0 {
		t.Errorf("b %v, want 220 received and 220 replays refused", s)
	}
	if got := similar(said, heard); got < 0.9 {
		t.Errorf("%.0f %% of the windows are alike, want 90", got*100)
	}
}

// Loss is counted and concealed, and it is heard: a third of the packets missing
// must not pass for a good call.
func TestLossIsConcealedAndCounted(t *testing.T) {
	for _, c := range []struct {
		every     int
		low, high float64 // part of the windows that is alike
	}{{20, 0.5, 1}, {3, 0, 0.5}} {
		said := speech(1, 4)
		s, heard := relayed(t, said, func(i int) int {
			if i%c.every == c.every-1 {
				return 0
			}
			return 1
		})
		lost := uint64(220 / c.every)
		if s.Lost+1 < lost || s.Lost > lost || s.Concealed+3 < lost || s.Concealed > lost+3 {
			t.Errorf("1 of %d lost: b %v, want %d lost and concealed", c.every, s, lost)
		}
		if got := similar(said, heard); got < c.low || got > c.high {
			t.Errorf("1 of %d lost: %.0f %% of the windows are alike, want %v..%v", c.every, got*100, c.low, c.high)
		}
	}
}

// Packets that are not authentic neither move the peer's address nor keep the
// call alive.
func TestStrangersChangeNothing(t *testing.T) {
	a, b := newEnd(t, nil, audiotest.Every(pace), nil), newEnd(t, nil, nil, nil)
	join(a, b, G722, secure.AEADAES256GCM)
	stranger := newEnd(t, nil, nil, nil)
	a.p.Timeout = 200 * time.Millisecond
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		pkt := make([]byte, 188)
		pkt[0], pkt[1] = 0x80, 9
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				pkt[3]++
				_, _ = stranger.conn.WriteToUDPAddrPort(pkt, a.addr())
			}
		}
	}()
	s, err := NewSession(a.p)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := s.Run(t.Context(), a.conn, a.cap, a.play)
	close(stop)
	<-done
	if !errors.Is(err, ErrMediaLost) || stats.AuthFail == 0 || s.peer != b.addr() {
		t.Errorf("Run = %v, %v, peer %v, want ErrMediaLost and peer %v", stats, err, s.peer, b.addr())
	}
}

// The peer's address follows an authentic packet (RFC 4961).
func TestPeerAddressIsLatched(t *testing.T) {
	said := speech(3, 3)
	a, b := call(t, G722, secure.AEADAES256GCM, nil, said)
	a.p.Remote = netip.MustParseAddrPort("127.0.0.1:9") // signalled wrong
	_, sb := talk(t, a, b, 150)
	if sb.Received < 140 {
		t.Errorf("b %v, want A's packets although A was told another address", sb)
	}
}

// datagrams runs a alone against a plain socket and returns what it sent.
func datagrams(t *testing.T, p func(*Params)) (rtp, rtcp int) {
	t.Helper()
	a, b := newEnd(t, speech(1, 2), audiotest.Every(pace), nil), newEnd(t, nil, nil, nil)
	join(a, b, G722, secure.AEADAES256GCM)
	p(&a.p)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, a.p, a.conn, a.cap, a.play); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	for {
		if err := b.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := b.conn.Read(buf)
		if err != nil {
			return rtp, rtcp
		}
		if packet.IsRTCP(buf[:n]) {
			rtcp++
		} else {
			rtp++
		}
	}
}

func TestHoldSendsOnlyRTCP(t *testing.T) {
	if rtp, rtcp := datagrams(t, func(p *Params) { p.Hold = true }); rtp != 0 || rtcp == 0 {
		t.Errorf("on hold: %d RTP, %d RTCP, want 0 and some", rtp, rtcp)
	}
	if rtp, rtcp := datagrams(t, func(*Params) {}); rtp < 10 || rtcp == 0 {
		t.Errorf("in a call: %d RTP, %d RTCP, want both", rtp, rtcp)
	}
}

func TestMuteIsSilence(t *testing.T) {
	a, b := call(t, G722, secure.AEADAES256GCM, speech(1, 2), nil)
	a.p.Mute = true
	_, sb := talk(t, a, b, 100)
	if l := loudest(b.play.Heard()); l > 8 || sb.Received < 50 {
		t.Errorf("muted: loudest sample %d, b %v, want silence that arrives", l, sb)
	}
}

func TestDeviceFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		script audiotest.Script
		want   error
	}{
		{"xrun and short read", audiotest.Script{3: audiotest.Xrun, 5: audiotest.Short}, nil},
		{"unplug", audiotest.Script{3: audiotest.Unplug}, audio.ErrUnplugged},
		{"stall", audiotest.Script{3: audiotest.Stall}, audio.ErrStalled},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newEnd(t, nil, audiotest.Every(pace), c.script), newEnd(t, nil, nil, nil)
			join(a, b, G722, secure.AEADAES256GCM)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if s, err := Run(ctx, a.p, a.conn, a.cap, a.play); !errors.Is(err, c.want) || c.want == nil && s.Xruns != 1 {
				t.Errorf("Run = %v, %v, want %v", s, err, c.want)
			}
		})
	}
}

func TestParamsRefused(t *testing.T) {
	for name, change := range map[string]func(*Params){
		"codec": func(p *Params) { p.Codec = "opus" }, "ptime": func(p *Params) { p.Ptime = 30 * time.Millisecond },
		"remote": func(p *Params) { p.Remote = netip.AddrPort{} }, "multicast": func(p *Params) { p.Remote = netip.MustParseAddrPort("224.0.0.1:5000") },
		"suite": func(p *Params) { p.Suite = "NULL" }, "short key": func(p *Params) { p.LocalKey = p.LocalKey[:10] },
		"no key": func(p *Params) { p.RemoteKey = nil }, "one key": func(p *Params) { p.RemoteKey = p.LocalKey },
		"delay": func(p *Params) { p.Delay = time.Second }, "payload type": func(p *Params) { p.PayloadType = 200 },
		"IPv6 from IPv4": func(p *Params) { p.Remote = netip.MustParseAddrPort("[::1]:5000") },
	} {
		a, _ := call(t, G722, secure.AEADAES256GCM, nil, nil)
		change(&a.p)
		if _, err := Run(t.Context(), a.p, a.conn, a.cap, a.play); err == nil {
			t.Errorf("%s: Run gave no error", name)
		}
	}
}

func TestParamsJSON(t *testing.T) {
	a, _ := call(t, PCMU, secure.AESCM128HMACSHA1, nil, nil)
	b, err := json.Marshal(a.p)
	var back Params
	if err != nil || json.Unmarshal(b, &back) != nil || back.Remote != a.p.Remote || string(back.LocalKey) != string(a.p.LocalKey) {
		t.Errorf("JSON round trip: %+v, %v", back, err)
	}
	if out := fmt.Sprintf("%+v", a.p); !strings.Contains(out, "[secret]") || strings.Contains(out, fmt.Sprint([]byte(a.p.LocalKey))) {
		t.Errorf("Sprintf shows the key: %s", out)
	}
}

func stepper(t testing.TB, codec Codec, suite secure.Suite) func() {
	a, b := newEnd(t, speech(1, 2), nil, nil), newEnd(t, speech(2, 2), nil, nil)
	join(a, b, codec, suite)
	s := [2]*Session{a.start(t), b.start(t)}
	return func() {
		for _, x := range s {
			if err := x.step(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestNoAllocationPerFrame(t *testing.T) {
	for _, codec := range []Codec{G722, PCMU} {
		for _, suite := range []secure.Suite{secure.AEADAES256GCM, secure.AESCM128HMACSHA1} {
			step := stepper(t, codec, suite)
			for range 20 {
				step()
			}
			if n := testing.AllocsPerRun(300, step); n != 0 {
				t.Errorf("%s %s: %v allocations per frame, want 0", codec, suite, n)
			}
		}
	}
}

// BenchmarkFrame is one 20 ms period of both ends of a call over loopback.
func BenchmarkFrame(b *testing.B) {
	for _, codec := range []Codec{G722, PCMU} {
		b.Run(string(codec), func(b *testing.B) {
			step := stepper(b, codec, secure.AEADAES256GCM)
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}
