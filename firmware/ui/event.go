package ui

import "time"

// Event is something that the screen or the keys' meaning depends on: one of
// KeyPressed, Hook, Status, Call, Muted, Fault.
type Event interface{ event() }

// Key is a key of the phone. Digits are '0' to '9', '*' and '#'.
type Key rune

// The keys that are not digits.
const (
	KeyCall    Key = '\r'   // dial or answer
	KeyBack    Key = '\x1b' // hang up, refuse, or go back
	KeyErase   Key = '\b'   // take the last digit away
	KeyMute    Key = 'm'
	KeySpeaker Key = 's'
)

// KeyPressed is one press of one key by a person.
type KeyPressed struct{ Key Key }

// Hook is the handset's place.
type Hook struct{ Lifted bool }

// Status is what the idle page shows. It is sent whenever any of it changes,
// and once a minute for the clock.
type Status struct {
	Time       time.Time // local; zero when no trusted time is known
	Line       string    // e.g. "100"
	Label      string    // the owner's text
	Registered bool      // at the call server
	Proven     bool      // the provisioning service has accepted this boot's proof
}

// Phase is how far a call is.
type Phase uint8

// The phases.
const (
	NoCall   Phase = iota
	Incoming       // rings here
	Outgoing       // rings there
	Active         // both answered
	Held           // by either side
)

// Call is the state of the one call. The strings come from strangers: they
// are cut and cleaned before they are shown (R44).
type Call struct {
	Phase  Phase
	Peer   string // address-of-record or number
	Name   string // display name, may be empty; never trusted
	Cipher string // SRTP suite; empty until media is keyed
	Codec  string
	Reason string // why it ended, with NoCall
}

// Muted says what init has done to the microphone.
type Muted struct{ On bool }

// Fault is what keeps the phone from serving; an empty What ends it.
type Fault struct {
	What string // e.g. "This phone could not prove its software"
	Do   string // what a person can do about it
}

func (KeyPressed) event() {}
func (Hook) event()       {}
func (Status) event()     {}
func (Call) event()       {}
func (Muted) event()      {}
func (Fault) event()      {}

// Action is what a person wants.
type Action uint8

// The actions.
const (
	Dial    Action = iota + 1 // Text is the number
	Answer                    // the incoming call
	Hangup                    // end or refuse the call
	Mute                      // toggle; init decides and answers with Muted
	Speaker                   // toggle; init decides
	Tone                      // Text is the digit to send in the call
)

// Command is one wish of a person, for the roles that can fulfil it.
type Command struct {
	Action Action
	Text   string
}
