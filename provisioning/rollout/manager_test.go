package rollout_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/provisioning/fleet"
	"ringfence/provisioning/fleet/sqlstore"
	"ringfence/provisioning/rollout"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/factory"
	"ringfence/provisioning/wire/release"
)

// phones plays the connected phones and records what they are told, and
// whether the store knew it by then.
type phones struct {
	mu    sync.Mutex
	ready []device.ID
	told  []device.ID
	check func(device.ID)
}

func (p *phones) Ready() []device.ID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ready)
}

func (p *phones) Tell(id device.ID, u *wire.Update) {
	p.check(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, id)
}

func (p *phones) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.told)
}

// references is a list that can change.
type references struct {
	mu   sync.Mutex
	list []*release.Reference
}

func (r *references) References(context.Context, string, device.Model) ([]*release.Reference, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list, nil
}

type rig struct {
	t       *testing.T
	store   *sqlstore.Store
	fleet   *fleet.Fleet
	refs    *references
	phones  *phones
	manager *rollout.Manager
	stop    func()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRig has n phones on release 1.0.0, all connected, and release 1.1.0 in
// force.
func newRig(t *testing.T, n int) *rig {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	must(t, err)
	t.Cleanup(func() { store.Close() })
	r := &rig{t: t, store: store, refs: &references{list: []*release.Reference{{Release: "1.1.0"}}}, phones: &phones{}}
	r.fleet, err = fleet.New(store)
	must(t, err)
	m := &factory.Manifest{Manufacturer: "Maker"}
	for i := range n {
		m.Units = append(m.Units, factory.Unit{Device: device.ID(fmt.Sprintf("RF-%04d", i)), Model: "virt64"})
	}
	must(t, r.fleet.Import(t.Context(), m))
	for _, u := range m.Units {
		must(t, r.fleet.Trust(t.Context(), u.Device, "1.0.0", time.Now()))
		r.phones.ready = append(r.phones.ready, u.Device)
	}
	r.phones.check = func(id device.ID) {
		stored, err := store.RolloutPhones(context.Background(), "r1")
		if err != nil || !slices.ContainsFunc(stored, func(p *rollout.Phone) bool { return p.Device == id && p.State == rollout.Told }) {
			t.Errorf("%s is told before the store knows: %v", id, err)
		}
	}
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	var err error
	r.manager, err = rollout.New(r.t.Context(), rollout.Config{Store: r.store, Fleet: r.fleet, References: r.refs, Audit: r.store, Now: time.Now, Interval: 10 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Policy: rollout.Policy{CanaryAbove: 5, CanaryAtMost: 2, ApprovalAbove: 8}})
	must(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.manager.Run(ctx, r.phones) }() // it returns nil
	r.stop = func() { cancel(); <-done }
	r.t.Cleanup(func() { r.stop() })
}

func (r *rig) plan(limit time.Duration) rollout.Plan {
	ring := rollout.Ring{Threshold: 100, Limit: rollout.Duration(limit), Wait: rollout.Duration(time.Hour), Soak: rollout.Duration(time.Millisecond)}
	first, rest := ring, ring
	first.Name, first.Count, rest.Name, rest.Percent = "canary", 1, "rest", 100
	return rollout.Plan{Release: "1.1.0", Target: "x", Model: "virt64", Rings: []rollout.Ring{first, rest}}
}

func (r *rig) until(want func() bool) {
	r.t.Helper()
	for range 500 {
		if want() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	v, err := r.manager.Show(r.t.Context(), "r1")
	r.t.Fatalf("it does not happen: %+v, %v", v, err)
}

func (r *rig) commit(id device.ID) {
	r.t.Helper()
	must(r.t, r.manager.Progress(r.t.Context(), id, "1.1.0", &wire.Progress{Release: "1.1.0", Phase: wire.PhaseCommitted}, time.Now()))
}

// TestRestart: a service that restarts goes on where it was: it forgets no
// commit, tells nobody twice by itself, and tells a phone again that comes back.
func TestRestart(t *testing.T) {
	r := newRig(t, 4)
	v, err := r.manager.Start(t.Context(), "admin:a", r.plan(time.Minute))
	must(t, err)
	if v.Status != rollout.Running {
		t.Fatalf("started as %s: %s", v.Status, v.Reason)
	}
	r.until(func() bool { return r.phones.count() == 1 })
	r.stop()
	r.start()
	canary := r.phones.told[0]
	if u := r.manager.Proved(canary, "1.0.0"); u == nil || u.Release != "1.1.0" {
		t.Errorf("a told phone that comes back on 1.0.0 hears %v", u)
	}
	if u := r.manager.Proved(canary, "1.1.0"); u != nil {
		t.Errorf("a told phone that comes back on 1.1.0 hears %v", u)
	}
	r.commit(canary)
	r.until(func() bool { return r.phones.count() == 4 })
	if u := r.manager.Proved(canary, "1.0.0"); u != nil {
		t.Errorf("a settled phone hears %v", u)
	}
	r.stop()
	r.start()
	for _, id := range r.phones.told[1:] {
		r.commit(id)
	}
	r.until(func() bool {
		v, err := r.manager.Show(t.Context(), "r1")
		return err == nil && v.Status == rollout.Done
	})
	if n := r.phones.count(); n != 4 {
		t.Errorf("%d phones were told, want 4", n)
	}
}

// TestSilenceHalts: a canary without a word halts the rollout, and nobody else
// is told, also not when it comes back.
func TestSilenceHalts(t *testing.T) {
	r := newRig(t, 4)
	_, err := r.manager.Start(t.Context(), "admin:a", r.plan(100*time.Millisecond))
	must(t, err)
	r.until(func() bool {
		v, err := r.manager.Show(t.Context(), "r1")
		return err == nil && v.Status == rollout.Halted && strings.Contains(v.Reason, `ring "canary": 1 of 1 phones failed (1 silent)`)
	})
	r.stop()
	r.start()
	if u := r.manager.Proved(r.phones.told[0], "1.0.0"); u != nil || r.phones.count() != 1 {
		t.Errorf("halted, but told %d phones and offered %v", r.phones.count(), u)
	}
}

// TestReferencesGone: values that are taken away halt the rollout before the
// next phone.
func TestReferencesGone(t *testing.T) {
	r := newRig(t, 4)
	_, err := r.manager.Start(t.Context(), "admin:a", r.plan(time.Minute))
	must(t, err)
	r.until(func() bool { return r.phones.count() == 1 })
	r.refs.mu.Lock()
	r.refs.list = nil
	r.refs.mu.Unlock()
	r.until(func() bool {
		v, err := r.manager.Show(t.Context(), "r1")
		return err == nil && v.Status == rollout.Halted && strings.Contains(v.Reason, "not in force")
	})
	r.commit(r.phones.told[0])
	if _, err := r.manager.Resume(t.Context(), "admin:a", "r1"); err == nil || !strings.Contains(err.Error(), "no trusted reference values") {
		t.Errorf("Resume = %v", err)
	}
	if _, err := r.manager.Abort(t.Context(), "admin:a", "r1"); err != nil || r.phones.count() != 1 {
		t.Errorf("Abort = %v, %d told", err, r.phones.count())
	}
	if _, err := r.manager.Start(t.Context(), "admin:a", r.plan(time.Minute)); err == nil || !strings.Contains(err.Error(), "import them first") {
		t.Errorf("Start = %v", err)
	}
}

// TestSecondPerson: a rollout to many phones is told to nobody before another
// operator approved it, and the proposal outlives a restart.
func TestSecondPerson(t *testing.T) {
	r := newRig(t, 9)
	v, err := r.manager.Start(t.Context(), "admin:a", r.plan(time.Minute))
	must(t, err)
	if v.Status != rollout.Proposed {
		t.Fatalf("9 phones start as %s", v.Status)
	}
	r.stop()
	r.start()
	if _, err := r.manager.Resume(t.Context(), "admin:b", "r1"); err == nil {
		t.Error("resume stands in for approval")
	}
	if _, err := r.manager.Approve(t.Context(), "admin:a", "r1"); err == nil || r.phones.count() != 0 {
		t.Errorf("its own approval = %v, %d told", err, r.phones.count())
	}
	_, err = r.manager.Approve(t.Context(), "admin:b", "r1")
	must(t, err)
	r.until(func() bool { return r.phones.count() == 1 })
}
