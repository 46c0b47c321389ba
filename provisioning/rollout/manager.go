package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ringfence/provisioning/audit"
	"ringfence/provisioning/fleet"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/release"
)

// ErrUnknown reports a rollout that is not there.
var ErrUnknown = errors.New("no such rollout")

// Store keeps rollouts durably. Every method that returns nil has its effect
// on stable storage; all are safe for concurrent use.
type Store interface {
	// Rollouts returns all, oldest first.
	Rollouts(ctx context.Context) ([]*Rollout, error)
	// RolloutPhones returns them in the order in which they are told.
	RolloutPhones(ctx context.Context, id string) ([]*Phone, error)
	// PutRollout stores r and adds or replaces the phones given, in one
	// transaction. New phones are given in order, all at once.
	PutRollout(ctx context.Context, r *Rollout, phones []Phone) error
}

// References tells which releases have reference values in force.
type References interface {
	References(ctx context.Context, manufacturer string, model device.Model) ([]*release.Reference, error)
}

// Streams reaches the phones.
type Streams interface {
	Ready() []device.ID                // connected and proved
	Tell(id device.ID, u *wire.Update) // never blocks; a phone that has gone is told when it comes back
}

// Config is what a Manager needs; every field is required unless it says so.
type Config struct {
	Store      Store
	Fleet      *fleet.Fleet
	References References
	Audit      audit.Log
	Policy     Policy
	Log        *slog.Logger
	Now        func() time.Time
	Interval   time.Duration // between looks at the clock; 0 means 1 s
}

// Manager runs the rollouts of one service. Safe for concurrent use. It keeps
// those that are not over in memory and writes each change before it acts.
type Manager struct {
	cfg  Config
	kick chan struct{}

	mu     sync.Mutex
	active []*run // not over, oldest first
}

// run is one rollout that is not over.
type run struct {
	Rollout
	phones []Phone
	index  map[device.ID]int
}

// New checks cfg and loads what is not over. Phones that were told before a
// restart have their whole limit again: the service was silent, not they.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	if cfg.Store == nil || cfg.Fleet == nil || cfg.References == nil || cfg.Audit == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("rollout manager with an incomplete configuration")
	}
	if err := cfg.Policy.Validate(); err != nil {
		return nil, err
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	m := &Manager{cfg: cfg, kick: make(chan struct{}, 1)}
	all, err := cfg.Store.Rollouts(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Status.Over() {
			continue
		}
		stored, err := cfg.Store.RolloutPhones(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		phones := make([]Phone, len(stored))
		for i, p := range stored {
			phones[i] = *p
			if p.State == Told {
				phones[i].Since = cfg.Now()
			}
		}
		m.active = append(m.active, newRun(*r, phones))
	}
	return m, nil
}

func newRun(r Rollout, phones []Phone) *run {
	index := make(map[device.ID]int, len(phones))
	for i := range phones {
		index[phones[i].Device] = i
	}
	return &run{r, phones, index}
}

// minPass bounds how often all phones are looked at.
const minPass = 20 * time.Millisecond

// Run decides and tells until ctx ends.
func (m *Manager) Run(ctx context.Context, streams Streams) error {
	tick := time.NewTicker(m.cfg.Interval)
	defer tick.Stop()
	for {
		if err := m.pass(ctx, streams); err != nil && ctx.Err() == nil {
			m.cfg.Log.Error("rollout", "error", err) // nothing was told that is not stored; the next pass tries again
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(minPass):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-m.kick:
		}
	}
}

// wake has Run look again; it never blocks.
func (m *Manager) wake() {
	select {
	case m.kick <- struct{}{}:
	default: // it will look anyway
	}
}

func (m *Manager) pass(ctx context.Context, streams Streams) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.active) == 0 {
		return nil
	}
	connected := make(map[device.ID]bool)
	for _, id := range streams.Ready() {
		connected[id] = true
	}
	var errs []error
	for _, r := range m.active {
		errs = append(errs, m.step(ctx, r, connected, streams))
	}
	m.active = slices.DeleteFunc(m.active, func(r *run) bool { return r.Status.Over() })
	return errors.Join(errs...)
}

// step decides about one rollout, stores the outcome and then tells.
func (m *Manager) step(ctx context.Context, r *run, connected map[device.ID]bool, streams Streams) error {
	now := m.cfg.Now()
	inForce := false
	if r.Status == Running {
		var err error
		if inForce, err = m.inForce(ctx, r.Makers, &r.Plan); err != nil {
			return err
		}
	}
	actions := Decide(State{Rollout: r.Rollout, Phones: r.phones, Connected: connected, InForce: inForce}, now)
	if len(actions) == 0 {
		return nil
	}
	after, phones := r.Rollout, slices.Clone(r.phones)
	for _, a := range actions {
		after = Apply(after, phones, a, now)
	}
	var changed []Phone
	for i := range phones {
		if phones[i] != r.phones[i] {
			changed = append(changed, phones[i])
		}
	}
	if err := m.cfg.Store.PutRollout(ctx, &after, changed); err != nil {
		return fmt.Errorf("rollout %s: %w", r.ID, err)
	}
	r.Rollout, r.phones = after, phones
	for _, a := range actions {
		if err := m.noteAction(ctx, r, a); err != nil {
			m.cfg.Log.Error("audit", "error", err) // it is stored: the phones must hear
		}
		for _, id := range a.Tell {
			streams.Tell(id, r.update())
		}
	}
	return nil
}

func (r *run) update() *wire.Update {
	return &wire.Update{Release: r.Plan.Release, Target: r.Plan.Target}
}

func (m *Manager) noteAction(ctx context.Context, r *run, a Action) error {
	ring := func() string { return fmt.Sprintf("ring %q", r.Plan.Rings[max(r.Ring, 0)].Name) }
	switch {
	case a.Fail != nil:
		for _, id := range a.Fail {
			if err := m.note(ctx, "service", "update.silent", string(id), "rollout "+r.ID+": no word within the ring's limit"); err != nil {
				return err
			}
		}
		return nil
	case a.Halt != "":
		m.cfg.Log.Warn("rollout halted", "rollout", r.ID, "reason", a.Halt)
		return m.note(ctx, "service", "rollout.halted", r.ID, a.Halt)
	case a.Open != nil:
		return m.note(ctx, "service", "rollout.opened", r.ID, fmt.Sprintf("ring %q", r.Plan.Rings[*a.Open].Name))
	case a.Tell != nil:
		return m.note(ctx, "service", "rollout.told", r.ID, fmt.Sprintf("%s: %d phones, first %s", ring(), len(a.Tell), a.Tell[0]))
	case a.Soak != nil:
		return m.note(ctx, "service", "rollout.soaking", r.ID, ring())
	}
	return m.note(ctx, "service", "rollout.done", r.ID, r.Plan.Release)
}

func (m *Manager) note(ctx context.Context, actor, name, subject, detail string) error {
	return m.cfg.Audit.Append(ctx, audit.Event{Time: m.cfg.Now(), Actor: actor, Name: name, Subject: subject, Detail: detail})
}

// inForce says that a phone of any of makers that boots the release is known.
func (m *Manager) inForce(ctx context.Context, makers []string, plan *Plan) (bool, error) {
	for _, maker := range makers {
		refs, err := m.cfg.References.References(ctx, maker, plan.Model)
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(refs, func(r *release.Reference) bool { return r.Release == plan.Release }) {
			return false, nil
		}
	}
	return len(makers) > 0, nil
}

// Proved is for a stream's first proof: it returns the update to tell again,
// nil for none, and has a phone that waits considered.
func (m *Manager) Proved(id device.ID, proved string) *wire.Update {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.active {
		i, ok := r.index[id]
		if !ok || r.Status != Running {
			continue
		}
		m.wake()
		if r.phones[i].State == Told && proved != r.Plan.Release {
			return r.update()
		}
	}
	return nil
}

// Progress records what a phone says about its update. proved is the release
// that it proved on the same stream.
func (m *Manager) Progress(ctx context.Context, id device.ID, proved string, p *wire.Progress, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.active {
		i, ok := r.index[id]
		if !ok {
			continue
		}
		after := Report(r.phones[i], &r.Plan, p, proved, now)
		if after == r.phones[i] {
			continue
		}
		if err := m.cfg.Store.PutRollout(ctx, &r.Rollout, []Phone{after}); err != nil {
			return fmt.Errorf("rollout %s: %w", r.ID, err)
		}
		r.phones[i] = after
		m.wake()
	}
	return nil
}
