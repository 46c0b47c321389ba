package rollout

import (
	"fmt"
	"slices"
	"time"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
)

// Action is one thing to do; exactly one field is set. Apply says what it
// changes.
type Action struct {
	Fail   []device.ID `json:"fail,omitempty"` // they were silent beyond their limit
	Halt   string      `json:"halt,omitempty"` // the reason
	Open   *int        `json:"open,omitempty"` // ring
	Tell   []device.ID `json:"tell,omitempty"`
	Soak   *int        `json:"soak,omitempty"` // ring
	Finish bool        `json:"finish,omitempty"`
}

// maxDeferral bounds how long calls may hold an update back, in limits.
const maxDeferral = 10

// CauseSilent is the cause of a phone that did not report in time.
const CauseSilent = "silent"

// Decide returns what to do now, in order. It is a pure function: the caller
// makes the changes (Apply) durable before it tells any phone.
func Decide(s State, now time.Time) []Action {
	s.Phones = slices.Clone(s.Phones)
	var all []Action
	for {
		a, more := next(s, now)
		if !more {
			return all
		}
		all = append(all, a)
		s.Rollout = Apply(s.Rollout, s.Phones, a, now)
	}
}

// Apply returns r after a, and changes phones in place.
func Apply(r Rollout, phones []Phone, a Action, now time.Time) Rollout {
	switch {
	case a.Fail != nil:
		each(phones, a.Fail, func(p *Phone) { p.State, p.Cause = Failed, CauseSilent })
	case a.Tell != nil:
		each(phones, a.Tell, func(p *Phone) { p.State, p.Told, p.Since = Told, now, now })
	case a.Halt != "":
		r.Status, r.Reason = Halted, a.Halt
	case a.Open != nil:
		r.Ring, r.Opened, r.Soaking = *a.Open, now, time.Time{}
	case a.Soak != nil:
		r.Soaking = now
	case a.Finish:
		r.Status, r.Ended = Done, now
	}
	return r
}

// each calls change with the phones named; ids are in the order of phones.
func each(phones []Phone, ids []device.ID, change func(*Phone)) {
	for i := range phones {
		if len(ids) > 0 && phones[i].Device == ids[0] {
			change(&phones[i])
			ids = ids[1:]
		}
	}
}

// next is the first thing to do.
func next(s State, now time.Time) (Action, bool) {
	r := &s.Rollout
	if r.Status != Running && r.Status != Halted {
		return Action{}, false
	}
	if late := overdue(s, now); len(late) > 0 {
		return Action{Fail: late}, true
	}
	if r.Status == Halted {
		return Action{}, false
	}
	if !s.InForce {
		return Action{Halt: fmt.Sprintf("reference values of release %s are not in force for model %s: a good update would look like tampering", r.Plan.Release, r.Plan.Model)}, true
	}
	if r.Ring < 0 {
		return Action{Open: new(int)}, true
	}
	tallies := Count(s)
	for i, t := range tallies[:r.Ring+1] {
		if reason := r.exceeded(i, t, t.Size); reason != "" {
			return Action{Halt: reason}, true
		}
	}
	if ready := sendable(s, tallies); len(ready) > 0 {
		return Action{Tell: ready}, true
	}
	return s.Rollout.advance(tallies, now)
}

// overdue lists told phones that were silent beyond their ring's limit.
func overdue(s State, now time.Time) []device.ID {
	var late []device.ID
	for i := range s.Phones {
		p := &s.Phones[i]
		if p.State == Told && now.Sub(p.Since) > time.Duration(s.Rollout.Plan.Rings[p.Ring].Limit) {
			late = append(late, p.Device)
		}
	}
	return late
}

// sendable lists connected phones of open rings that may be told, in order,
// no more than each ring has at work at once.
func sendable(s State, tallies []Tally) []device.ID {
	var ready []device.ID
	room := make([]int, s.Rollout.Ring+1)
	for i := range room {
		room[i] = len(s.Phones)
		if n := s.Rollout.Plan.Rings[i].Parallel; n > 0 {
			room[i] = n - tallies[i].Told
		}
	}
	for i := range s.Phones {
		p := &s.Phones[i]
		if p.State == Waiting && p.Ring <= s.Rollout.Ring && room[p.Ring] > 0 && s.Connected[p.Device] {
			ready = append(ready, p.Device)
			room[p.Ring]--
		}
	}
	return ready
}

// exceeded names the ring's failure when more than its share of base phones
// failed.
func (r *Rollout) exceeded(ring int, t Tally, base int) string {
	plan := &r.Plan.Rings[ring]
	allowed := base * (100 - plan.Threshold) / 100
	failed := t.Failed - r.forgiven(ring)
	if failed <= allowed {
		return ""
	}
	return fmt.Sprintf("ring %q: %d of %d phones failed (%d silent), a threshold of %d %% allows %d", plan.Name, failed, base, t.Silent, plan.Threshold, allowed)
}

// advance soaks, opens the next ring or finishes, once no phone is at work and
// nobody is waited for.
func (r *Rollout) advance(tallies []Tally, now time.Time) (Action, bool) {
	plan, t := &r.Plan.Rings[r.Ring], tallies[r.Ring]
	for _, open := range tallies[:r.Ring+1] {
		if open.Told > 0 {
			return Action{}, false
		}
	}
	if t.Waiting > 0 && now.Sub(r.Opened) < time.Duration(plan.Wait) {
		return Action{}, false
	}
	if reason := r.exceeded(r.Ring, t, t.Committed+t.Failed); reason != "" {
		return Action{Halt: reason}, true
	}
	if t.Committed == 0 && r.forgiven(r.Ring) == 0 {
		return Action{Halt: fmt.Sprintf("ring %q: none of its %d phones was connected within %s", plan.Name, t.Size, time.Duration(plan.Wait))}, true
	}
	ring := r.Ring
	if r.Soaking.IsZero() {
		return Action{Soak: &ring}, true
	}
	if now.Sub(r.Soaking) < time.Duration(plan.Soak) {
		return Action{}, false
	}
	if ring++; ring < len(r.Plan.Rings) {
		return Action{Open: &ring}, true
	}
	return Action{Finish: true}, true
}

func (r *Rollout) forgiven(ring int) int {
	if ring < len(r.Forgiven) {
		return r.Forgiven[ring]
	}
	return 0
}

// Tally counts the phones of one ring.
type Tally struct {
	Name      string `json:"name"`
	Size      int    `json:"size"`
	Waiting   int    `json:"waiting"`
	Told      int    `json:"told"` // and not settled
	Committed int    `json:"committed"`
	Failed    int    `json:"failed"`
	Silent    int    `json:"silent"` // of the failed
}

// Count tallies every ring.
func Count(s State) []Tally {
	all := make([]Tally, len(s.Rollout.Plan.Rings))
	for i := range all {
		all[i].Name = s.Rollout.Plan.Rings[i].Name
	}
	for i := range s.Phones {
		p := &s.Phones[i]
		t := &all[p.Ring]
		t.Size++
		switch p.State {
		case Waiting:
			t.Waiting++
		case Told:
			t.Told++
		case Committed:
			t.Committed++
		case Failed:
			t.Failed++
			if p.Cause == CauseSilent {
				t.Silent++
			}
		}
	}
	return all
}

// Resume returns a halted r that runs again; the failures so far are accepted.
func Resume(r Rollout, phones []Phone, now time.Time) Rollout {
	r.Status, r.Reason = Running, ""
	r.Forgiven = make([]int, len(r.Plan.Rings))
	for i, t := range Count(State{Rollout: r, Phones: phones}) {
		r.Forgiven[i] = t.Failed
	}
	if r.Ring >= 0 {
		r.Opened = now // those who were away are waited for again
	}
	return r
}

// Report returns p after its progress. proved is the release that it proved on
// the stream the word came on: committed without that proof is a failure.
func Report(p Phone, plan *Plan, progress *wire.Progress, proved string, now time.Time) Phone {
	if p.State != Told && p.State != Failed || progress.Release != plan.Release {
		return p
	}
	switch progress.Phase {
	case wire.PhaseCommitted:
		if proved != plan.Release {
			p.State, p.Cause = Failed, "claims "+plan.Release+", proves "+proved
			return p
		}
		p.State, p.Cause = Committed, ""
	case wire.PhaseReverted, wire.PhaseRefused:
		p.State, p.Cause = Failed, string(progress.Phase)
		if progress.Cause != "" {
			p.Cause += ": " + progress.Cause
		}
	case wire.PhaseDeferred: // a call is up: it may take longer, but not for ever
		limit := time.Duration(plan.Rings[p.Ring].Limit)
		if p.State == Told && now.Sub(p.Told) < maxDeferral*limit {
			p.Since = now
		}
	}
	return p
}
