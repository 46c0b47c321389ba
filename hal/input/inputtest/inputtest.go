// Package inputtest plays keys and switches to code that reads a hal/input
// Source, and writes events as the kernel does. It is for tests, never for
// the phone. Layout: struct input_event of linux/input.h.
package inputtest

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"ringfence/hal/input"
)

// Record is one struct input_event without its time.
type Record struct {
	Type, Code uint16
	Value      int32
}

// Bytes writes the records as a kernel with words of the given size does.
func Bytes(word int, records ...Record) []byte {
	var out []byte
	for _, r := range records {
		out = append(out, make([]byte, 2*word)...)
		out = binary.NativeEndian.AppendUint16(out, r.Type)
		out = binary.NativeEndian.AppendUint16(out, r.Code)
		out = binary.NativeEndian.AppendUint32(out, uint32(r.Value))
	}
	return out
}

// Source is a played device. Its methods may be called from any goroutine.
type Source struct {
	events chan input.Event
	done   chan struct{}
	once   sync.Once

	mu       sync.Mutex
	switches map[input.Code]bool
}

var _ input.Source = (*Source)(nil)

// New returns a device with all keys and switches off.
func New() *Source {
	return &Source{events: make(chan input.Event), done: make(chan struct{}), switches: map[input.Code]bool{}}
}

// Press presses and releases a key; it waits for the reader.
func (s *Source) Press(code input.Code) {
	s.send(input.Event{Kind: input.Key, Code: code, On: true})
	s.send(input.Event{Kind: input.Key, Code: code})
}

// Set moves a switch; it waits for the reader.
func (s *Source) Set(sw input.Code, on bool) {
	s.mu.Lock()
	s.switches[sw] = on
	s.mu.Unlock()
	s.send(input.Event{Kind: input.Switch, Code: sw, On: on})
}

func (s *Source) send(e input.Event) {
	select {
	case s.events <- e:
	case <-s.done:
	}
}

// Next waits for the next played event.
func (s *Source) Next() (input.Event, error) {
	select {
	case e := <-s.events:
		return e, nil
	case <-s.done:
		return input.Event{}, fmt.Errorf("read input: %w", io.ErrClosedPipe)
	}
}

// State returns the switch as it was set last.
func (s *Source) State(sw input.Code) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.switches[sw], nil
}

// Close ends a waiting Next.
func (s *Source) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}
