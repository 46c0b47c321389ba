package rollout

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"ringfence/provisioning/fleet"
)

// View is a rollout as operators see it.
type View struct {
	Rollout
	Rings  []Tally `json:"rings"`
	Failed []Phone `json:"failed,omitempty"` // at most maxShown
}

const maxShown = 200

func view(r Rollout, phones []Phone) *View {
	v := &View{Rollout: r, Rings: Count(State{Rollout: r, Phones: phones})}
	for _, p := range phones {
		if p.State == Failed && len(v.Failed) < maxShown {
			v.Failed = append(v.Failed, p)
		}
	}
	return v
}

// Start checks plan against the fleet, the policy and the reference values in
// force, and stores the rollout: running, or proposed when a second person has
// to approve it.
func (m *Manager) Start(ctx context.Context, actor string, plan Plan) (*View, error) {
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.active {
		if r.Plan.Model == plan.Model {
			return nil, fmt.Errorf("rollout %s to model %s is %s: abort it first", r.ID, plan.Model, r.Status)
		}
	}
	all, err := m.cfg.Store.Rollouts(ctx)
	if err != nil {
		return nil, err
	}
	devices, err := m.cfg.Fleet.Devices(ctx)
	if err != nil {
		return nil, err
	}
	r := Rollout{ID: "r" + strconv.Itoa(len(all)+1), Plan: plan, Status: Running, By: actor, Created: m.cfg.Now(), Ring: -1}
	phones, leftOut, err := Members(&plan, devices, r.ID)
	if err != nil {
		return nil, err
	}
	if err := m.cfg.Policy.Check(&plan, phones); err != nil {
		return nil, err
	}
	r.LeftOut, r.Makers = leftOut, makers(devices, phones)
	if err := m.refuseUnknown(ctx, &r); err != nil {
		return nil, err
	}
	if len(phones) > m.cfg.Policy.ApprovalAbove {
		r.Status, r.Reason = Proposed, fmt.Sprintf("more than %d phones: another operator must approve", m.cfg.Policy.ApprovalAbove)
	}
	if err := m.cfg.Store.PutRollout(ctx, &r, phones); err != nil {
		return nil, err
	}
	m.active = append(m.active, newRun(r, phones))
	m.wake()
	return view(r, phones), m.note(ctx, actor, "rollout."+string(r.Status), r.ID, fmt.Sprintf("release %s to %d phones of model %s in %d rings", plan.Release, len(phones), plan.Model, len(plan.Rings)))
}

// refuseUnknown: a phone that boots a release without reference values would
// be refused as tampered with.
func (m *Manager) refuseUnknown(ctx context.Context, r *Rollout) error {
	known, err := m.inForce(ctx, r.Makers, &r.Plan)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("no trusted reference values of release %s for model %s: import them first (ringfence reference import)", r.Plan.Release, r.Plan.Model)
	}
	return nil
}

func makers(devices []*fleet.Device, phones []Phone) []string {
	in := newRun(Rollout{}, phones).index
	var names []string
	for _, d := range devices {
		if _, ok := in[d.ID]; ok && !slices.Contains(names, d.Manufacturer) {
			names = append(names, d.Manufacturer)
		}
	}
	return names
}

// Approve is the second person's word; actor must not be who started it.
func (m *Manager) Approve(ctx context.Context, actor, id string) (*View, error) {
	return m.change(ctx, actor, "rollout.approved", id, func(r *run) error {
		if r.Status != Proposed {
			return fmt.Errorf("rollout %s is %s, not proposed", id, r.Status)
		}
		if actor == r.By {
			return fmt.Errorf("%s started rollout %s: another operator must approve it", actor, id)
		}
		r.Status, r.Reason, r.Approved = Running, "", actor
		return nil
	})
}

// Halt has a running rollout start no further phone.
func (m *Manager) Halt(ctx context.Context, actor, id, reason string) (*View, error) {
	return m.change(ctx, actor, "rollout.halted", id, func(r *run) error {
		if r.Status != Running {
			return fmt.Errorf("rollout %s is %s, not running", id, r.Status)
		}
		if reason == "" {
			reason = "no reason given"
		}
		r.Status, r.Reason = Halted, "by "+actor+": "+reason
		return nil
	})
}

// Resume has a halted rollout go on; the failures so far are accepted.
func (m *Manager) Resume(ctx context.Context, actor, id string) (*View, error) {
	return m.change(ctx, actor, "rollout.resumed", id, func(r *run) error {
		if r.Status != Halted {
			return fmt.Errorf("rollout %s is %s, not halted", id, r.Status)
		}
		if err := m.refuseUnknown(ctx, &r.Rollout); err != nil {
			return err
		}
		r.Rollout = Resume(r.Rollout, r.phones, m.cfg.Now())
		return nil
	})
}

// Abort ends a rollout for good. Phones that were told finish or fail by
// themselves.
func (m *Manager) Abort(ctx context.Context, actor, id string) (*View, error) {
	return m.change(ctx, actor, "rollout.aborted", id, func(r *run) error {
		r.Status, r.Reason, r.Ended = Aborted, "by "+actor, m.cfg.Now()
		return nil
	})
}

// change stores what edit makes of the rollout, then takes it over.
func (m *Manager) change(ctx context.Context, actor, name, id string, edit func(*run) error) (*View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.IndexFunc(m.active, func(r *run) bool { return r.ID == id })
	if at < 0 {
		v, err := m.over(ctx, id)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("rollout %s is %s already", id, v.Status)
	}
	after := *m.active[at]
	if err := edit(&after); err != nil {
		return nil, err
	}
	if err := m.cfg.Store.PutRollout(ctx, &after.Rollout, nil); err != nil {
		return nil, err
	}
	*m.active[at] = after
	if after.Status.Over() {
		m.active = slices.Delete(m.active, at, at+1)
	}
	m.wake()
	return view(after.Rollout, after.phones), m.note(ctx, actor, name, id, after.Reason)
}

// over loads a rollout from the store.
func (m *Manager) over(ctx context.Context, id string) (*View, error) {
	all, err := m.cfg.Store.Rollouts(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(r *Rollout) bool { return r.ID == id })
	if at < 0 {
		return nil, fmt.Errorf("%q: %w", id, ErrUnknown)
	}
	stored, err := m.cfg.Store.RolloutPhones(ctx, id)
	if err != nil {
		return nil, err
	}
	phones := make([]Phone, len(stored))
	for i, p := range stored {
		phones[i] = *p
	}
	return view(*all[at], phones), nil
}

// Show returns one rollout.
func (m *Manager) Show(ctx context.Context, id string) (*View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.active {
		if r.ID == id {
			return view(r.Rollout, r.phones), nil
		}
	}
	return m.over(ctx, id)
}

// List returns all rollouts, oldest first, without their phones.
func (m *Manager) List(ctx context.Context) ([]*Rollout, error) { return m.cfg.Store.Rollouts(ctx) }
