// Package input reads keys and switches from Linux evdev devices. It gives
// codes as the kernel names them; what a key means is the business of ui. It
// neither writes events nor reads pointers. Interface: linux/input.h and
// Documentation/input/event-codes.rst of Linux 6.1.
package input

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kind says what an event is about.
type Kind uint8

// The kinds.
const (
	Key    Kind = iota + 1 // Code is a KEY_ code; auto-repeat is left out
	Switch                 // Code is a SW_ code
	Resync                 // the kernel dropped events: read switches anew, take all keys as released
)

// Code is an event code of linux/input-event-codes.h.
type Code uint16

// Codes that a phone has.
const (
	KeyEsc       Code = 1
	Key1         Code = 2 // Key1 to Key9 are 2 to 10
	Key9         Code = 10
	Key0         Code = 11
	KeyBackspace Code = 14
	KeyEnter     Code = 28
	KeyS         Code = 31
	KeyM         Code = 50
	KeyKPStar    Code = 55
	KeyKPEnter   Code = 96
	KeyMute      Code = 113
	KeyNumStar   Code = 0x20a
	KeyNumPound  Code = 0x20b

	SwitchHook Code = 0 // the hook line of our boards: on = handset lifted
)

// Event is one change.
type Event struct {
	Kind Kind
	Code Code
	On   bool // key pressed, switch active
}

// Source gives events one by one.
type Source interface {
	// Next waits for the next event. After Close it returns an error.
	Next() (Event, error)
	// State reads a switch as it stands now.
	State(sw Code) (bool, error)
	Close() error
}

// ErrTorn is returned when the device gives part of an event, which evdev never does.
var ErrTorn = errors.New("part of an input event")

const (
	evSyn = 0
	evKey = 1
	evSw  = 5

	synReport  = 0
	synDropped = 3
)

// Decoder reads struct input_event. It is used by one goroutine at a time.
type Decoder struct {
	r     io.Reader
	order binary.ByteOrder
	buf   []byte
	wait  bool // dropped: skip to the end of the report
}

// NewDecoder reads events from r as a kernel with words of the given size in
// bytes (4 or 8) writes them: the time stamp before the event is two words.
func NewDecoder(r io.Reader, word int) (*Decoder, error) {
	if r == nil || word != 4 && word != 8 {
		return nil, fmt.Errorf("input decoder: reader %v, word of %d bytes, want 4 or 8", r != nil, word)
	}
	return &Decoder{r: r, order: binary.NativeEndian, buf: make([]byte, 2*word+8)}, nil
}

// Next returns the next key, switch or resync event.
func (d *Decoder) Next() (Event, error) {
	for {
		if n, err := io.ReadFull(d.r, d.buf); err != nil {
			if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) {
				return Event{}, ErrTorn
			}
			return Event{}, fmt.Errorf("read input: %w", err)
		}
		rest := d.buf[len(d.buf)-8:]
		if e, ok := d.event(d.order.Uint16(rest), d.order.Uint16(rest[2:]), int32(d.order.Uint32(rest[4:]))); ok {
			return e, nil
		}
	}
}

// event interprets one record; most are not for us.
func (d *Decoder) event(kind, code uint16, value int32) (Event, bool) {
	switch {
	case kind == evSyn && code == synDropped:
		// event-codes.rst, SYN_DROPPED: ignore all up to and including the next SYN_REPORT.
		d.wait = true
	case d.wait:
		if kind == evSyn && code == synReport {
			d.wait = false
			return Event{Kind: Resync}, true
		}
	case kind == evKey && (value == 0 || value == 1): // 2 is auto-repeat
		return Event{Kind: Key, Code: Code(code), On: value == 1}, true
	case kind == evSw:
		return Event{Kind: Switch, Code: Code(code), On: value != 0}, true
	}
	return Event{}, false
}

// Digit returns the dialling digit of a key code.
func Digit(c Code) (rune, bool) {
	switch {
	case c >= Key1 && c <= Key9:
		return rune('1' + c - Key1), true
	case c == Key0:
		return '0', true
	case c == KeyKPStar || c == KeyNumStar:
		return '*', true
	case c == KeyNumPound:
		return '#', true
	default:
		return 0, false
	}
}
