package speech_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"ringfence/firmware/media"
	"ringfence/firmware/media/secure"
	"ringfence/hal/audio"
	"ringfence/hal/audio/audiotest"
	"ringfence/tools/speech"
	"ringfence/tools/tooltest"
)

// phone is the media half of a phone, behind a path that carries its packets.
type phone struct {
	params media.Params
	conn   *net.UDPConn
	addr   netip.AddrPort
	near   *net.UDPConn // the path's end that this phone takes for its peer
	turn   chan struct{}
	in     *audiotest.Capture
	out    *audiotest.Playback
}

func listen(t *testing.T) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func newPhone(t *testing.T, codec media.Codec, local, remote byte) *phone {
	t.Helper()
	key := func(seed byte) secure.Key {
		n, err := secure.AEADAES256GCM.KeySize()
		if err != nil {
			t.Fatal(err)
		}
		k := make(secure.Key, n)
		for i := range k {
			k[i] = seed + byte(i)
		}
		return k
	}
	p := &phone{turn: make(chan struct{}, 1), params: media.Params{Codec: codec, Suite: secure.AEADAES256GCM,
		LocalKey: key(local), RemoteKey: key(remote), SSRC: uint32(local),
		PayloadType: map[media.Codec]uint8{media.G722: 9, media.PCMA: 8}[codec]}}
	p.conn, p.addr = listen(t)
	p.near, p.params.Remote = listen(t)
	return p
}

// carry passes the packet that from has sent on to to, or drops it.
func carry(t *testing.T, from, to *phone, drop bool) {
	var packet [2000]byte
	err := from.near.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, _, err2 := from.near.ReadFromUDPAddrPort(packet[:])
	if err := errors.Join(err, err2); err != nil {
		t.Errorf("packet of a phone: %v", err)
		return
	}
	if drop {
		return
	}
	if _, err := to.near.WriteToUDPAddrPort(packet[:n], to.addr); err != nil {
		t.Error(err)
	}
}

// overCall has one phone's media say said to another's over a path that drops
// a share of the packets, and returns what the other played: codec, SRTP,
// jitter buffer and concealment are those of the firmware. The ends take
// turns, so that the machine's load changes nothing.
func overCall(t *testing.T, codec media.Codec, said []int16, share float64) ([]int16, media.Stats) {
	t.Helper()
	a, b := newPhone(t, codec, 1, 2), newPhone(t, codec, 2, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rng := rand.New(rand.NewPCG(5, 6))
	wait := func(turn chan struct{}) bool {
		select {
		case <-turn:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var stepsA, stepsB int
	clockA := func() {
		if stepsA++; stepsA > 1 {
			b.turn <- struct{}{}
			if wait(a.turn) {
				carry(t, b, a, false)
			}
		}
	}
	clockB := func() {
		if stepsB++; stepsB > 1 {
			a.turn <- struct{}{}
		}
		if stepsB > len(said)/320+50 {
			cancel()
		}
		if wait(b.turn) {
			carry(t, a, b, rng.Float64() < share)
		}
	}
	a.open(t, said, clockA)
	b.open(t, nil, clockB)
	ended := make(chan error, 1)
	go func() {
		_, err := media.Run(ctx, a.params, a.conn, a.in, a.out)
		ended <- err
	}()
	stats, err := media.Run(ctx, b.params, b.conn, b.in, b.out)
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	return b.out.Heard(), stats
}

func (p *phone) open(t *testing.T, said []int16, clock audiotest.Clock) {
	t.Helper()
	var err, err2 error
	p.in, err = audiotest.NewCapture(audio.Wideband(), said, clock, nil)
	p.out, err2 = audiotest.NewPlayback(audio.Wideband(), 30*speech.Rate, nil)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
}

// The firmware's own media must pass without loss, and fail with 30 %: its
// concealment may please the ear, but the words are not there.
func TestCompareOverCall(t *testing.T) {
	tooltest.Need(t, "espeak-ng")
	said, err := speech.Say(t.Context(), "The number is "+speech.Number(rand.New(rand.NewPCG(8, 9))), "en")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		codec media.Codec
		share float64
		want  bool
	}{
		{"G.722", media.G722, 0, true},
		{"G.711", media.PCMA, 0, true},
		{"G.722 with 30 % loss", media.G722, 0.3, false},
		{"G.711 with 30 % loss", media.PCMA, 0.3, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			heard, stats := overCall(t, test.codec, said, test.share)
			got := speech.Compare(said, heard, speech.Rate)
			t.Logf("%+v; %v", got, stats)
			if got.Pass() != test.want {
				t.Errorf("Compare = %+v, want pass = %v", got, test.want)
			}
			if share := float64(stats.Lost) / float64(stats.Lost+stats.Received+1); share < test.share-0.1 || share > test.share+0.1 {
				t.Errorf("the path lost %.0f %%, want about %.0f %%", share*100, test.share*100)
			}
		})
	}
}
