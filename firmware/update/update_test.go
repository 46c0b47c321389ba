package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/hal/slot"
	"ringfence/hal/slot/slottest"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/release"
)

func TestUpdateCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, three := newBuild(1, 30000), newBuild(2, 40001), newBuild(3, 20000)
		p := newPhone(t, one, two, three)
		if err := p.live(t.Context(), two.offer()); err != nil || p.running != two {
			t.Fatalf("update = %v, running %s, want %s", err, p.running.target.Path, two.target.Path)
		}
		want := []wire.Phase{wire.PhaseDownloading, wire.PhaseWritten, wire.PhaseRebooting, wire.PhaseCommitted, wire.PhaseCommitted}
		if got := p.phases(); !slices.Equal(got, want) {
			t.Errorf("progress = %v, want %v", got, want)
		}
		if floor, _ := p.machine.Floor().Read(); floor != 0 {
			t.Errorf("floor = %d while slot A holds an image of unknown sequence, want 0", floor)
		}
		if err := p.boot(nil); err != nil || p.running != two {
			t.Fatalf("next boot = %v, %s, want the committed image", err, p.running.target.Path)
		}
		if err := p.live(t.Context(), three.offer()); err != nil || p.running != three || !p.slotHolds(slot.B, two) {
			t.Fatalf("second update = %v, running %s", err, p.running.target.Path)
		}
		if floor, _ := p.machine.Floor().Read(); floor != 2 {
			t.Errorf("floor = %d with sequences 2 and 3 in the slots, want 2", floor)
		}
	})
}

func TestBadReleaseReverts(t *testing.T) {
	for _, tt := range []struct {
		name, cause string
		bad         func(*build)
		tries       []bool
	}{
		{"never registers", "attest", func(b *build) { b.sick = true }, []bool{true, false}},
		// Each time once more into the old image, for clean evidence.
		{"hangs at boot", "boot", func(b *build) { b.dead = true }, []bool{true, false, true, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, two, three := newBuild(1, 30000), newBuild(2, 40001), newBuild(3, 100)
				tt.bad(two)
				p := newPhone(t, one, two, three)
				err := p.live(t.Context(), two.offer())
				var no *Refusal
				if !errors.As(err, &no) || no.Cause != "failed" || p.running != one {
					t.Fatalf("update = %v, running %s, want the old image and cause failed", err, p.running.target.Path)
				}
				if !slices.ContainsFunc(p.heard, func(h wire.Progress) bool { return h.Phase == wire.PhaseReverted && h.Cause == tt.cause }) {
					t.Errorf("progress = %+v, want reverted with cause %s", p.heard, tt.cause)
				}
				if !slices.Equal(p.tries, tt.tries) {
					t.Errorf("restarts = %v, want %v", p.tries, tt.tries)
				}
				if floor, _ := p.machine.Floor().Read(); floor != 0 {
					t.Errorf("floor = %d after a revert, want 0", floor)
				}
				if err := p.live(t.Context(), three.offer()); err != nil || p.running != three {
					t.Errorf("the next good release = %v, running %s", err, p.running.target.Path)
				}
			})
		})
	}
}

func TestRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, cause string
		spoil       func(p *phone, b *build)
	}{
		{"wrong model", "model", func(_ *phone, b *build) { b.target.Custom.Model = "virt32" }},
		{"wrong hardware revision", "hardware", func(_ *phone, b *build) { b.target.Custom.Hardware = []string{"r2"} }},
		{"target of another release", "release", func(_ *phone, b *build) { b.target.Custom.Release = "1.0.9" }},
		{"no sequence", "sequence", func(_ *phone, b *build) { b.target.Custom.Sequence = 0 }},
		{"below the floor", "floor", func(p *phone, _ *build) { _ = p.machine.Floor().Raise(8) }},
		{"too large for a slot", "size", func(_ *phone, b *build) { b.target.Length = capacity + 1 }},
		{"not in the log", "log", func(p *phone, b *build) { delete(p.remote.proofs, b.target.Path) }},
		{"proof for another release", "log", func(p *phone, b *build) { p.remote.proofs[b.target.Path] = release.Entry{Target: b.target.Path} }},
		{"swapped image", "digest", func(p *phone, b *build) { p.remote.served = make([]byte, b.target.Length) }},
		{"truncated image", "digest", func(p *phone, b *build) { p.remote.served = b.content[:b.target.Length-1] }},
		{"image with a tail", "digest", func(p *phone, b *build) { p.remote.served = append(slices.Clone(b.content), 0) }},
		{"metadata refused", "metadata", func(p *phone, _ *build) { p.remote.down = refuse("metadata", "one signature short") }},
	} {
		one, seven := newBuild(1, 3000), newBuild(7, 4000)
		p := newPhone(t, one, seven)
		offer := seven.offer()
		tt.spoil(p, seven)
		if tt.cause != "log" {
			p.remote.proofs[seven.target.Path] = newRepository(seven).proofs[seven.target.Path]
		}
		err := p.updater.attempt(t.Context(), offer)
		var no *Refusal
		if !errors.As(err, &no) || no.Cause != tt.cause {
			t.Errorf("%s: attempt = %v, want a refusal with cause %s", tt.name, err, tt.cause)
		}
		if p.slotHolds(slot.B, seven) {
			t.Errorf("%s: the image is in the slot", tt.name)
		}
		if _, err := os.Stat(p.image); tt.cause == "digest" && err == nil {
			t.Errorf("%s: the bad download was kept", tt.name)
		}
	}
}

func TestRefusesLowerSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, five, six := newBuild(1, 3000), newBuild(5, 4000), newBuild(6, 4000)
		p := newPhone(t, one, five, six)
		if err := p.live(t.Context(), five.offer()); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string]*build{"older release": one, "newer release number, same sequence": six} {
			six.target.Custom.Sequence = 5
			p.remote.proofs = newRepository(one, six).proofs
			var no *Refusal
			if err := p.updater.attempt(t.Context(), b.offer()); !errors.As(err, &no) || no.Cause != "sequence" {
				t.Errorf("%s: attempt = %v, want cause sequence", name, err)
			}
		}
	})
}

type lostFloor struct{ slottest.Floor }

func (lostFloor) Read() (uint64, error) {
	return 0, errors.New("version floor is not defined in the TPM")
}

func TestLostFloorExplainsItself(t *testing.T) {
	one, two := newBuild(1, 3000), newBuild(2, 4000)
	p := newPhone(t, one, two)
	if err := p.boot(lostFloor{}); err != nil {
		t.Fatal(err)
	}
	err := p.updater.attempt(t.Context(), two.offer())
	var no *Refusal
	if !errors.As(err, &no) || no.Cause != "floor" || !strings.Contains(err.Error(), "not defined in the TPM") {
		t.Errorf("attempt with a lost floor = %v, want a refusal that says so", err)
	}
}

func TestDownloadResumes(t *testing.T) {
	one, two := newBuild(1, 3000), newBuild(2, 40000)
	p := newPhone(t, one, two)
	p.remote.part = 15000
	for range 2 {
		if err := p.updater.attempt(t.Context(), two.offer()); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("interrupted attempt = %v", err)
		}
		if err := p.boot(nil); err != nil { // a reboot loses nothing of it
			t.Fatal(err)
		}
	}
	go drainAll(p.updater)
	if err := p.updater.attempt(t.Context(), two.offer()); !errors.Is(err, errRebooted) {
		t.Fatalf("last attempt = %v", err)
	}
	if want := []int{0, 15000, 30000}; !slices.Equal(p.remote.begun, want) {
		t.Errorf("downloads began at %v, want %v", p.remote.begun, want)
	}
}

func drainAll(u *Updater) {
	for range u.progress {
	}
}

// TestCallComesFirst: no download begins while a call is up, a call ends one
// that runs, and the reboot waits.
func TestCallComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newBuild(1, 3000), newBuild(2, 40000)
		p := newPhone(t, one, two)
		u := p.updater
		p.remote.during = func() { u.Busy(true) }
		p.local.busy = 2
		u.Busy(true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		u.Offer(two.offer())
		go func() { done <- u.Run(ctx) }()
		synctest.Wait()
		if len(p.remote.begun) != 0 {
			t.Error("a download began during a call")
		}
		u.Busy(false)
		synctest.Wait()
		if len(p.remote.begun) != 1 || p.slotHolds(slot.B, two) {
			t.Errorf("downloads began at %v, want one that the call ended", p.remote.begun)
		}
		p.remote.during = nil
		p.listen()
		u.Busy(false)
		synctest.Wait()
		time.Sleep(18 * time.Second)
		synctest.Wait()
		if next, err := p.machine.Variables().Get("BootNext"); err != nil || next[0] != 0xb0 {
			t.Errorf("BootNext = % x, %v, want slot B once the phone was free", next, err)
		}
		cancel()
		<-done
		p.listen()
		if got := p.phases(); got[0] != wire.PhaseDeferred || !slices.Contains(got[slices.Index(got, wire.PhaseRebooting)+1:], wire.PhaseDeferred) {
			t.Errorf("progress = %v, want deferred at the start and before the reboot", got)
		}
	})
}

// TestPowerCutsOfWholeUpdates cuts the power at every write of three updates
// (two good, one that never registers): disk, UEFI variables, TPM floor and
// record. After each cut the phone boots, ends where it should, and its floor
// has not fallen nor risen above an image that may boot.
func TestPowerCutsOfWholeUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		builds := []*build{newBuild(1, 30000), newBuild(2, 40001), newBuild(3, 52000), newBuild(4, 33333)}
		builds[3].sick = true
		p := newPhone(t, builds...)
		total := 0
		for n := 1; n < len(builds); n++ {
			start := p.machine.Fork()
			work := *p
			work.machine = start.Fork()
			work.machine.Record()
			if err := work.boot(nil); err != nil {
				t.Fatal(err)
			}
			if err := work.live(t.Context(), builds[n].offer()); (err != nil) != builds[n].sick {
				t.Fatalf("update %d = %v", n, err)
			}
			before, _ := start.Floor().Read()
			cuts, err := work.machine.Cuts(start, 7, uint64(n), func(_ int, after *slottest.Machine) error {
				cut := *p
				cut.machine = after
				return survive(t.Context(), &cut, builds[n-1], builds[n], before)
			})
			if err != nil {
				t.Fatalf("update %d: %v", n, err)
			}
			total += cuts
			p.machine = work.machine
		}
		t.Logf("%d power cuts, 0 bricks", total)
		if total < 2000 {
			t.Errorf("%d power cuts, want at least 2000", total)
		}
	})
}

func survive(ctx context.Context, p *phone, old, next *build, before uint64) error {
	if err := p.boot(nil); err != nil {
		return err
	}
	if p.running != old && p.running != next {
		return fmt.Errorf("booted %s", p.running.target.Path)
	}
	err := p.live(ctx, next.offer())
	want := next
	if next.sick {
		want = old
		var no *Refusal
		if errors.As(err, &no) && no.Cause == "failed" {
			err = nil
		}
	}
	if err != nil || p.running != want {
		return fmt.Errorf("ends with %s and %w, want %s", p.running.target.Path, err, want.target.Path)
	}
	floor, err := p.machine.Floor().Read()
	if err != nil || floor < before || floor > p.running.target.Custom.Sequence {
		return fmt.Errorf("floor %d, was %d, running sequence %d: %w", floor, before, p.running.target.Custom.Sequence, err)
	}
	return nil
}

func TestNewRefuses(t *testing.T) {
	p := newPhone(t, newBuild(1, 100))
	for name, spoil := range map[string]func(*Config){
		"no slots":      func(c *Config) { c.Local = nil },
		"no repository": func(c *Config) { c.Remote = nil },
		"no verifier":   func(c *Config) { c.Verifier = nil },
		"no floor":      func(c *Config) { c.Floor = nil },
		"no store":      func(c *Config) { c.Store = nil },
		"no hardware":   func(c *Config) { c.Hardware = "" },
		"no release":    func(c *Config) { c.Release = "" },
	} {
		c := p.updater.cfg
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: New succeeded, want an error", name)
		}
	}
}
