package rollout

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
)

// The model: one lab phone and a wave of three, of which one may fail (66 % of
// three allows one failure). Time moves in ticks of a minute.
const tick = time.Minute

func modelPlan() Plan {
	ring := func(name string, count, threshold int) Ring {
		return Ring{Name: name, Count: count, Threshold: threshold, Soak: Duration(tick), Limit: Duration(2 * tick), Wait: Duration(2 * tick), Parallel: 2}
	}
	return Plan{Release: "1.1.0", Target: "x", Model: "m", Rings: []Ring{ring("lab", 1, 100), ring("wave", 3, 66)}}
}

func epoch() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }

// world is one state of the model, with what must be remembered to judge it.
type world struct {
	State
	now time.Time
}

// newWorld has one phone away at first.
func newWorld(away int) world {
	w := world{State: State{Rollout: Rollout{ID: "r1", Plan: modelPlan(), Status: Running, Ring: -1}, InForce: true, Connected: map[device.ID]bool{}}, now: epoch()}
	for i, ring := range []int{0, 1, 1, 1} {
		id := device.ID(fmt.Sprintf("P%d", i))
		w.Phones = append(w.Phones, Phone{Device: id, Ring: ring, State: Waiting})
		w.Connected[id] = i != away
	}
	return w
}

func (w world) clone() world {
	w.Phones, w.Rollout.Forgiven = slices.Clone(w.Phones), slices.Clone(w.Rollout.Forgiven)
	connected := make(map[device.ID]bool)
	for id, up := range w.Connected {
		connected[id] = up
	}
	w.Connected = connected
	return w
}

// key names a state; ages are cut where nothing can differ any more.
func (w world) key() string {
	age := func(t time.Time, most int) int {
		if t.IsZero() {
			return -1
		}
		return min(int(w.now.Sub(t)/tick), most)
	}
	var b strings.Builder
	r := &w.Rollout
	fmt.Fprint(&b, r.Status, r.Ring, age(r.Opened, 3), age(r.Soaking, 2), r.Forgiven, w.InForce, r.Reason != "")
	for _, p := range w.Phones {
		since := -1
		if p.State == Told {
			since = age(p.Since, 3)*100 + age(p.Told, 4)
		}
		fmt.Fprint(&b, "|", p.State, since, p.Cause, w.Connected[p.Device])
	}
	return b.String()
}

// moves are all that can happen in w, each on a copy.
func (w world) moves() []world {
	var all []world
	add := func(change func(*world)) {
		n := w.clone()
		change(&n)
		all = append(all, n)
	}
	add(func(n *world) { n.now = n.now.Add(tick) })
	for id := range w.Connected {
		add(func(n *world) { n.Connected[id] = true })
	}
	add(func(n *world) { n.InForce = !n.InForce })
	for i, p := range w.Phones {
		if p.State != Told && p.Cause != CauseSilent {
			continue
		}
		for _, phase := range []wire.Phase{wire.PhaseCommitted, wire.PhaseReverted, wire.PhaseDeferred} {
			if phase == wire.PhaseDeferred && w.now.Sub(p.Told) >= 2*tick {
				continue // keeps the model small; the bound has its own test
			}
			add(func(n *world) {
				n.Phones[i] = Report(p, &n.Rollout.Plan, &wire.Progress{Release: "1.1.0", Phase: phase}, "1.1.0", n.now)
			})
		}
	}
	switch w.Rollout.Status {
	case Running:
		add(func(n *world) { n.Rollout.Status, n.Rollout.Reason = Halted, "by hand" })
		add(func(n *world) { n.Rollout.Status = Aborted })
	case Halted:
		if w.Rollout.Forgiven == nil { // one resume is enough to see what it does
			add(func(n *world) { n.Rollout = Resume(n.Rollout, n.Phones, n.now) })
		}
	}
	return all
}

// step applies a decision, judges each action, and returns the state after.
func (w world) step(t *testing.T) world {
	t.Helper()
	actions := Decide(w.State, w.now)
	if again := Decide(w.State, w.now); !reflect.DeepEqual(actions, again) {
		t.Fatalf("%s: decided %v, then %v", w.key(), actions, again)
	}
	n := w.clone()
	for _, a := range actions {
		n.judge(t, a)
		n.Rollout = Apply(n.Rollout, n.Phones, a, n.now)
	}
	if rest := Decide(n.State, n.now); len(rest) > 0 {
		t.Fatalf("%s: %v leaves %v to do", w.key(), actions, rest)
	}
	n.invariants(t)
	return n
}

// judge checks that a may happen in w.
func (w *world) judge(t *testing.T, a Action) {
	t.Helper()
	r := &w.Rollout
	running := r.Status == Running
	if !running && a.Fail == nil {
		t.Fatalf("%s: %+v while %s", w.key(), a, r.Status)
	}
	if a.Tell != nil && !w.InForce {
		t.Fatalf("%s: told %v without reference values", w.key(), a.Tell)
	}
	for _, id := range a.Tell {
		i := slices.IndexFunc(w.Phones, func(p Phone) bool { return p.Device == id })
		if p := w.Phones[i]; p.State != Waiting || p.Ring > r.Ring || !w.Connected[id] {
			t.Fatalf("%s: told %s, which is %s in ring %d of %d, connected %t", w.key(), id, p.State, p.Ring, r.Ring, w.Connected[id])
		}
	}
	if a.Open != nil && *a.Open > 0 || a.Finish {
		last := Count(w.State)[r.Ring]
		if last.Told > 0 || last.Committed+r.forgiven(r.Ring) == 0 || r.Soaking.IsZero() || w.now.Sub(r.Soaking) < tick {
			t.Fatalf("%s: %+v after a ring that did not succeed and soak: %+v", w.key(), a, last)
		}
	}
	if a.Soak != nil && Count(w.State)[r.Ring].Waiting > 0 && w.now.Sub(r.Opened) < 2*tick {
		t.Fatalf("%s: ring %d is left before its phones were waited for", w.key(), r.Ring)
	}
	for i, tally := range Count(w.State) {
		plan := &r.Plan.Rings[i]
		failed := tally.Failed - r.forgiven(i)
		if running && i <= r.Ring && 100*failed > (100-plan.Threshold)*tally.Size && (a.Tell != nil || a.Open != nil || a.Soak != nil || a.Finish) {
			t.Fatalf("%s: %+v although ring %d failed: %+v", w.key(), a, i, tally)
		}
	}
}

// invariants hold after every decision.
func (w *world) invariants(t *testing.T) {
	t.Helper()
	for i, tally := range Count(w.State) {
		if tally.Told > w.Rollout.Plan.Rings[i].Parallel {
			t.Fatalf("%s: %d phones at work in ring %d", w.key(), tally.Told, i)
		}
		if i > w.Rollout.Ring && tally.Waiting != tally.Size {
			t.Fatalf("%s: ring %d has begun before it was opened", w.key(), i)
		}
	}
	for _, p := range w.Phones {
		if p.State == Told && w.now.Sub(p.Since) > 2*tick && !w.Rollout.Status.Over() {
			t.Fatalf("%s: %s is silent for %s and not failed", w.key(), p.Device, w.now.Sub(p.Since))
		}
	}
}

// TestEveryState visits every state that the model can reach.
func TestEveryState(t *testing.T) {
	seen := map[string]bool{}
	var queue []world
	for _, away := range []int{0, 3} {
		queue = append(queue, newWorld(away).step(t))
	}
	reached := map[Status]int{}
	for len(queue) > 0 {
		w := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		reached[w.Rollout.Status]++
		if w.Rollout.Status.Over() {
			continue
		}
		for _, moved := range w.moves() {
			n := moved.step(t)
			if key := n.key(); !seen[key] {
				seen[key] = true
				queue = append(queue, n)
			}
		}
	}
	for _, s := range []Status{Running, Halted, Done, Aborted} {
		if reached[s] == 0 {
			t.Errorf("the model never reaches %s", s)
		}
	}
	t.Logf("%d states: %v", len(seen), reached)
}
