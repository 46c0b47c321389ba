package micgate

import (
	"fmt"
	"strings"
	"testing"
)

// world is what the orders have done, kept apart from what the gate believes,
// and what a person has done, told from the events alone.
type world struct {
	open, lamp, silenced bool

	offHook, speaker, policy, active, held, muted bool
	acted                                         bool // since the last call ended
}

func (w world) obey(list []Order) (world, error) {
	for _, o := range list {
		switch o {
		case Open:
			if w.open || !w.lamp {
				return w, fmt.Errorf("opened while open=%v lamp=%v", w.open, w.lamp)
			}
			w.open = true
		case Close:
			if !w.open {
				return w, fmt.Errorf("closed what was not open")
			}
			w.open = false
		case LampOn:
			w.lamp = true
		case LampOff:
			if w.open {
				return w, fmt.Errorf("lamp out while open")
			}
			w.lamp = false
		case Silence:
			w.silenced = true
		case Unsilence:
			w.silenced = false
		}
	}
	return w, nil
}

// see follows the events by the words of the requirement, not by the code.
func (w world) see(e Event) world {
	switch e {
	case HookLifted:
		w.offHook, w.speaker, w.acted = true, false, true
	case HookReplaced:
		w.offHook = false
		if !w.speaker {
			w.acted, w.muted = false, false
		}
	case SpeakerKey:
		w.speaker = !w.speaker
		w.acted = w.offHook || w.speaker
	case CallKey:
		w.acted = w.offHook || w.speaker
	case MuteKey:
		w.muted = !w.muted && w.active
	case PolicyVerified:
		w.policy = true
	case PolicyLost:
		w.policy = false
	case CallActive:
		w.active, w.held = true, false
	case CallHeld:
		w.held = w.active
	case CallEnded, MediaDied:
		w.active, w.held, w.muted, w.speaker, w.acted = false, false, false, false, false
	}
	return w
}

// check holds the outside against the invariants of R40 and R41.
func (w world) check() error {
	switch {
	case w.open && !w.offHook && !w.speaker:
		return fmt.Errorf("open on hook without speaker")
	case w.open && !w.active:
		return fmt.Errorf("open without a call")
	case w.open && !w.policy:
		return fmt.Errorf("open without a verified configuration")
	case w.open && !w.acted:
		return fmt.Errorf("open without a person's act")
	case w.open != w.lamp:
		return fmt.Errorf("lamp %v while open is %v", w.lamp, w.open)
	case w.open && w.silenced != (w.muted || w.held):
		return fmt.Errorf("switch off is %v, mute %v, hold %v", w.silenced, w.muted, w.held)
	case !w.open && w.offHook && w.active && w.policy && w.acted:
		return fmt.Errorf("closed in a call that a person takes part in")
	}
	return nil
}

type stepper func(State, Event) (State, []Order)

type node struct {
	state State
	world world
}

// explore visits every state that any sequence of events reaches, together
// with the world around it, and returns how many, or the shortest sequence
// that breaks an invariant.
func explore(step stepper) (int, error) {
	paths := map[node]string{{}: ""}
	queue := []node{{}}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for _, e := range Events() {
			state, list := step(n.state, e)
			w, err := n.world.see(e).obey(list)
			if err == nil {
				err = w.check()
			}
			path := paths[n] + fmt.Sprintf(" %d", e)
			if err != nil {
				return len(paths), fmt.Errorf("after events%s: %w", path, err)
			}
			next := node{state, w}
			if _, seen := paths[next]; !seen {
				paths[next] = path
				queue = append(queue, next)
			}
		}
	}
	return len(paths), nil
}

// TestR40Model checks all reachable states, which is every sequence of every length.
func TestR40Model(t *testing.T) {
	states, err := explore(State.Step)
	if err != nil {
		t.Fatal(err)
	}
	if states < 50 {
		t.Errorf("only %d states were reached: the model is too small to mean anything", states)
	}
	t.Logf("%d states, %d transitions", states, states*len(Events()))
}

// TestModelFindsWrongTransitions seeds one fault at a time.
func TestModelFindsWrongTransitions(t *testing.T) {
	tests := []struct {
		name string
		step stepper
		want string
	}{
		{"hook ignored", func(s State, e Event) (State, []Order) {
			if e == HookReplaced {
				return s, nil
			}
			return s.Step(e)
		}, "on hook"},
		{"opened by the call role", func(s State, e Event) (State, []Order) {
			if e != CallActive {
				return s.Step(e)
			}
			next := s.apply(e)
			next.open = next.policy
			return next, orders(s, next)
		}, "open"},
		{"stays open after the call", func(s State, e Event) (State, []Order) {
			if e == CallEnded {
				return s, nil
			}
			return s.Step(e)
		}, "without a call"},
		{"policy loss ignored", func(s State, e Event) (State, []Order) {
			if e == PolicyLost {
				return s, nil
			}
			return s.Step(e)
		}, "without a verified configuration"},
		{"lamp forgotten", func(s State, e Event) (State, []Order) {
			next, list := s.Step(e)
			return next, without(list, LampOn)
		}, "lamp"},
		{"mute ignored", func(s State, e Event) (State, []Order) {
			next, list := s.Step(e)
			return next, without(list, Silence)
		}, "switch off"},
		{"consent outlives the call", func(s State, e Event) (State, []Order) {
			next, list := s.Step(e)
			next.consent = next.consent || next.offHook
			return next, list
		}, "person's act"},
		{"never opens", func(s State, e Event) (State, []Order) { return s, nil }, "closed in a call"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := explore(tt.step)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("explore = %v, want a complaint about %q", err, tt.want)
			}
		})
	}
}

func without(list []Order, banned Order) []Order {
	var kept []Order
	for _, o := range list {
		if o != banned {
			kept = append(kept, o)
		}
	}
	return kept
}

func TestOrders(t *testing.T) {
	tests := []struct {
		name   string
		events []Event
		want   []Order // of the last event
	}{
		{"answered by lifting", []Event{PolicyVerified, HookLifted, CallActive}, []Order{LampOn, Unsilence, Open}},
		{"replaced", []Event{PolicyVerified, HookLifted, CallActive, HookReplaced}, []Order{Close, LampOff}},
		{"muted", []Event{PolicyVerified, HookLifted, CallActive, MuteKey}, []Order{Silence}},
		{"muted twice", []Event{PolicyVerified, HookLifted, CallActive, MuteKey, MuteKey}, []Order{Unsilence}},
		{"held", []Event{PolicyVerified, HookLifted, CallActive, CallHeld}, []Order{Silence}},
		{"no policy", []Event{HookLifted, CallActive}, nil},
		{"R41: answered by the network alone", []Event{PolicyVerified, CallActive}, nil},
		{"R41: second call, handset still off", []Event{PolicyVerified, HookLifted, CallActive, CallEnded, CallActive}, nil},
		{"second call, answer key", []Event{PolicyVerified, HookLifted, CallActive, CallEnded, CallKey, CallActive}, []Order{LampOn, Unsilence, Open}},
		{"speaker", []Event{PolicyVerified, SpeakerKey, CallActive}, []Order{LampOn, Unsilence, Open}},
		{"speaker keeps the call", []Event{PolicyVerified, HookLifted, CallActive, SpeakerKey, HookReplaced}, nil},
		{"call key on hook", []Event{PolicyVerified, CallKey, CallActive}, nil},
		{"unknown event", []Event{PolicyVerified, HookLifted, CallActive, 99}, nil},
		{"media died", []Event{PolicyVerified, HookLifted, CallActive, MediaDied}, []Order{Close, LampOff}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s State
			var got []Order
			for _, e := range tt.events {
				s, got = s.Step(e)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("orders of the last of %v = %v, want %v", tt.events, got, tt.want)
			}
		})
	}
}
