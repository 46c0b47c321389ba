// Package micgate decides when the microphone may be open. Init holds the one
// gate and obeys its orders: it alone can open the capture device, set the
// codec's capture switch and light the lamp. The package is a pure state
// machine: it opens nothing, waits for nothing and knows no time. The rules
// are R40, R41 and R45: on hook and without the speaker key nothing is open, no
// message from the network opens anything, and what call reports about itself
// can only close the gate or open it after a person's act.
package micgate

// Event is something that happened; the comment says whose word it is.
type Event uint8

// The events. Person events come from devices (the hook line, keys), the others from roles.
const (
	HookLifted     Event = iota + 1 // person: handset off hook
	HookReplaced                    // person: handset on hook
	SpeakerKey                      // person: speaker key pressed, which toggles
	CallKey                         // person: dial or answer key pressed
	MuteKey                         // person: mute key pressed, which toggles
	PolicyVerified                  // agent: a verified configuration is in force
	PolicyLost                      // agent: no verified configuration any more
	CallActive                      // call: a call is answered by both sides
	CallHeld                        // call: the call is held by either side
	CallEnded                       // call: no call any more
	MediaDied                       // init: the media process ended
)

// Events lists every event, for tests and for decoders.
func Events() []Event {
	all := make([]Event, 0, int(MediaDied))
	for e := HookLifted; e <= MediaDied; e++ {
		all = append(all, e)
	}
	return all
}

// Order is what init must do, in the order given.
type Order uint8

// The orders.
const (
	// Open: open capture and playback and pass the descriptors to media.
	Open Order = iota + 1
	// Close: end the media process, which holds the descriptors, and start a
	// fresh one without any. A passed descriptor cannot be taken back.
	Close
	// Silence: the codec's capture switch off, for mute and hold.
	Silence
	// Unsilence: the codec's capture switch on.
	Unsilence
	// LampOn: light the lamp that says the microphone is open.
	LampOn
	// LampOff: put it out. It comes only after Close.
	LampOff
)

// State is the whole state of the gate. The zero value is a phone that has
// just started: on hook, closed, nothing verified. It is comparable, and only
// [State.Step] makes new ones.
type State struct {
	offHook bool
	speaker bool
	consent bool // a person acted since the last call ended
	policy  bool
	call    call
	muted   bool

	open     bool
	silenced bool
}

type call uint8

const (
	callNone call = iota
	callActive
	callHeld
)

// IsOpen reports whether the capture device is to be open.
func (s State) IsOpen() bool { return s.open }

// IsSilenced reports whether the codec's capture switch is to be off.
func (s State) IsSilenced() bool { return s.silenced }

// OffHook reports whether the handset is lifted.
func (s State) OffHook() bool { return s.offHook }

// Speaker reports whether the speaker was switched on by its key.
func (s State) Speaker() bool { return s.speaker }

// Muted reports whether the mute key is on.
func (s State) Muted() bool { return s.muted }

// Step returns the state after e and the orders that lead there. An unknown
// event changes nothing.
func (s State) Step(e Event) (State, []Order) {
	next := s.apply(e)
	// A dead media process has lost its descriptors. The call cannot go on
	// by itself: a person must act again.
	died := e == MediaDied
	next.open = next.mayOpen() && !died
	next.silenced = next.muted || next.call != callActive
	return next, orders(s, next)
}

// mayOpen is the rule itself.
func (s State) mayOpen() bool {
	return (s.offHook || s.speaker) && s.consent && s.policy && s.call != callNone
}

func (s State) apply(e Event) State {
	switch e {
	case HookLifted:
		s.offHook, s.speaker, s.consent = true, false, true
	case HookReplaced:
		s.offHook = false
		s.consent = s.consent && s.speaker
		s.muted = s.muted && s.speaker
	case SpeakerKey:
		s.speaker = !s.speaker
		s.consent = s.speaker || s.offHook
	case CallKey:
		s.consent = s.offHook || s.speaker
	case MuteKey:
		s.muted = !s.muted && s.call != callNone
	case PolicyVerified:
		s.policy = true
	case PolicyLost:
		s.policy = false
	case CallActive:
		s.call = callActive
	case CallHeld:
		s.call = s.call.held()
	case CallEnded, MediaDied:
		s.call, s.speaker, s.consent, s.muted = callNone, false, false, false
	}
	return s
}

// held: only a call that was active can be held, so that hold opens nothing.
func (c call) held() call {
	if c == callNone {
		return callNone
	}
	return callHeld
}

// orders never lets sound through before the lamp is lit, nor puts the lamp
// out before the device is closed.
func orders(from, to State) []Order {
	var list []Order
	if from.open && to.open && !from.silenced && to.silenced {
		list = append(list, Silence)
	}
	switch {
	case !from.open && to.open:
		list = append(list, LampOn)
		if to.silenced {
			list = append(list, Silence)
		} else {
			list = append(list, Unsilence)
		}
		list = append(list, Open)
	case from.open && !to.open:
		list = append(list, Close, LampOff)
	case from.open && from.silenced && !to.silenced:
		list = append(list, Unsilence)
	}
	return list
}
