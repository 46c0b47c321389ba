package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/wire/report"
	"ringfence/tools/lab"
	"ringfence/tools/segment"
	"ringfence/tools/speech"
)

// TestSpine boots two phones once and walks through what a phone's life must
// show (issue "The main job"; R14, R16, R17, R24, R28-R34, R38-R40, R47, R48).
func TestSpine(t *testing.T) {
	requireLab(t)
	s := newSpine(t)
	s.powerOn(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"sockets of an idle phone", s.idleSockets},
		{"scan of a running phone", s.scan},
		{"microphone closed on hook", s.onHook},
		{"call heard both ways, nothing in clear", s.call},
		{"loss is heard", s.lossIsHeard},
		{"configuration applied live", s.liveConfiguration},
		{"provisioning restarts", s.provisioningRestarts},
		{"call server restarts", s.callServerRestarts},
		{"retired phone loses its registration", s.retired},
	} {
		if !t.Run(step.name, step.run) {
			t.FailNow() // later steps stand on this one
		}
	}
}

func (s *spine) powerOn(t *testing.T) {
	t.Helper()
	for _, p := range []*lab.Phone{s.a, s.b} {
		if err := p.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*lab.Phone{s.a, s.b} {
		expect(t, p, bootLimit, `stage name=registered\b`)
		within(t, time.Minute, func(ctx context.Context) error { return s.world.Site.WaitState(ctx, p.ID, "trusted") })
	}
}

// idleSockets reads the kernel's socket table as phone A reports it.
func (s *spine) idleSockets(t *testing.T) { s.sockets(t, false) }

func (s *spine) sockets(t *testing.T, inCall bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	status, err := s.world.Site.WaitStatus(ctx, s.a.ID, func(r *report.Status) bool {
		rtp := slices.ContainsFunc(r.Sockets, func(s report.Socket) bool { return s.Proto == "udp" })
		return r.Registered && r.InCall == inCall && rtp == inCall
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.CheckSockets(status); err != nil {
		t.Error(err)
	}
}

func (s *spine) scan(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	address, err := s.a.Address(ctx)
	if err != nil {
		t.Fatal(err)
	}
	open, err := lab.ScanTCP(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	if len(open) > 0 {
		t.Errorf("open TCP ports on %s: %v, want none", address, open)
	}
}

func (s *spine) onHook(t *testing.T) {
	for _, p := range []*lab.Phone{s.a, s.b} {
		if p.Machine.Microphone().Open() {
			t.Errorf("phone %s is on hook and its codec captures", p.Name)
		}
		if lit, _ := p.Machine.Lamp(); lit {
			t.Errorf("phone %s is on hook and its microphone lamp is lit", p.Name)
		}
	}
}

func (s *spine) call(t *testing.T) {
	s.dial(t)
	for _, p := range []*lab.Phone{s.a, s.b} {
		if !p.Machine.Microphone().Open() {
			t.Errorf("phone %s is in a call and its codec does not capture", p.Name)
		}
		if lit, _ := p.Machine.Lamp(); !lit {
			t.Errorf("phone %s captures and its lamp is dark", p.Name)
		}
	}
	for _, way := range [][2]*lab.Phone{{s.a, s.b}, {s.b, s.a}} {
		within(t, callLimit, func(ctx context.Context) error { return s.speak(ctx, way[0], way[1]) })
	}
	s.sockets(t, true)
	s.hangUp(t)
	s.sockets(t, false)
	traffic, err := s.world.ReadCapture(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := traffic.Check(); err != nil {
		t.Error(err)
	}
	t.Log(traffic)
}

func (s *spine) dial(t *testing.T) {
	t.Helper()
	ring := s.a.Machine.Console().Reader()
	ring.SkipAll()
	within(t, callLimit, func(ctx context.Context) error { return lab.Call(ctx, s.a, s.b, "101") })
	within(t, callLimit, func(ctx context.Context) error { return ring.ExpectString(ctx, "ringfence call: line kind=answered") })
	for _, p := range []*lab.Phone{s.a, s.b} {
		within(t, callLimit, func(ctx context.Context) error { return p.Machine.ExpectLamp(ctx, true) })
	}
}

func (s *spine) hangUp(t *testing.T) {
	t.Helper()
	for _, p := range []*lab.Phone{s.a, s.b} {
		if err := p.Machine.Hook(false); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*lab.Phone{s.a, s.b} {
		within(t, callLimit, func(ctx context.Context) error { return p.Machine.ExpectLamp(ctx, false) })
		within(t, callLimit, func(ctx context.Context) error {
			return lab.Poll(ctx, func() error {
				if p.Machine.Microphone().Open() {
					return fmt.Errorf("phone %s hung up and its codec still captures", p.Name)
				}
				return nil
			})
		})
	}
}

func (s *spine) speak(ctx context.Context, from, to *lab.Phone) error {
	number := speech.Number(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	_, err := lab.Speak(ctx, from, to, number, filepath.Join(s.dir, from.Name+"-to-"+to.Name))
	return err
}

// lossIsHeard is the test of the audio test: through 30 % loss, concealment
// and all, the same comparison must fail.
func (s *spine) lossIsHeard(t *testing.T) {
	s.dial(t)
	rule := func(r segment.Rule) {
		if err := s.world.Segment.SetRule("phone-"+s.b.Name, r); err != nil {
			t.Fatal(err)
		}
	}
	rule(segment.Rule{Loss: 0.3})
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	err := s.speak(ctx, s.a, s.b)
	rule(segment.Rule{})
	if err == nil || !strings.Contains(err.Error(), "is not what was said") {
		t.Errorf("speech through 30 %% loss passes for what was said: %v", err)
	}
	s.hangUp(t)
}

// liveConfiguration changes the line of a running phone and back again: it
// takes effect when the phone is registered under the new name, without a reboot.
func (s *spine) liveConfiguration(t *testing.T) {
	applied := s.a.Machine.Console().Reader()
	applied.SkipAll()
	for _, user := range []string{"102", "100"} {
		within(t, time.Minute, func(ctx context.Context) error {
			return s.world.Site.Configure(ctx, s.a.ID, "line.user="+user, "display.label=Desk "+user)
		})
		within(t, time.Minute, func(ctx context.Context) error {
			return applied.ExpectString(ctx, "ringfence call: registered aor=sip:"+user+"@"+lab.Domain)
		})
	}
	if slices.Contains(s.a.Machine.Events(), "RESET") {
		t.Error("the phone restarted to apply a configuration")
	}
}

func (s *spine) provisioningRestarts(t *testing.T) {
	again := s.a.Machine.Console().Reader()
	again.SkipAll()
	s.world.Site.Provisiond().Stop()
	within(t, time.Minute, s.world.Site.StartProvisiond)
	within(t, 3*time.Minute, func(ctx context.Context) error { return again.ExpectString(ctx, "ringfence agent: attested") })
}

func (s *spine) callServerRestarts(t *testing.T) {
	again := s.a.Machine.Console().Reader()
	again.SkipAll()
	s.world.Site.CallServer().Stop()
	within(t, time.Minute, s.world.Site.StartCallServer)
	within(t, 3*time.Minute, func(ctx context.Context) error { return again.ExpectString(ctx, "ringfence call: registered") })
}

func (s *spine) retired(t *testing.T) {
	lost := s.b.Machine.Console().Reader()
	lost.SkipAll()
	within(t, time.Minute, func(ctx context.Context) error {
		_, err := s.world.Site.Admin(ctx, "device", "retire", s.b.ID)
		return err
	})
	within(t, time.Minute, func(ctx context.Context) error {
		return lost.ExpectString(ctx, "ringfence call: line kind=unregistered")
	})
}
