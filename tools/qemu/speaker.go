package qemu

import (
	"encoding/binary"
	"sync"
	"time"

	"ringfence/tools/speech"
)

// Speaker records everything that the board's codec plays. It is safe for
// concurrent use.
type Speaker struct {
	rate int

	mu     sync.Mutex
	chunks []chunk
	open   bool
}

type chunk struct {
	at   time.Time
	mono []int16
}

func newSpeaker(rate int) *Speaker { return &Speaker{rate: rate} }

// Rate is the sample rate of the recording in hertz.
func (s *Speaker) Rate() int { return s.rate }

// Open reports whether the guest is playing at this moment.
func (s *Speaker) Open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Since returns what was played from the given time on (the zero time means all
// of it), both channels averaged. Where the codec was closed for a while, the
// pause is filled with silence so that positions stay those of a wall clock.
func (s *Speaker) Since(from time.Time) []int16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int16
	var start time.Time
	for _, c := range s.chunks {
		if c.at.Before(from) {
			continue
		}
		if start.IsZero() {
			start = c.at
		}
		// A chunk arrives late or early by some tens of milliseconds: only a
		// longer pause is a pause.
		if gap := frames(c.at.Sub(start), s.rate) - len(out); gap > s.rate/2 {
			out = append(out, make([]int16, gap)...)
		}
		out = append(out, c.mono...)
	}
	return out
}

// WriteWAV writes what Since returns to a mono WAV file.
func (s *Speaker) WriteWAV(path string, from time.Time) error {
	return speech.WriteWAV(path, s.Since(from), s.rate)
}

func (s *Speaker) handle(call *dbusMessage) *dbusMessage {
	switch call.member {
	case "Write": // Write(t id, ay data)
		d := &dbusDecoder{bytes: call.body}
		d.uint64()
		if data := d.array(); d.err == nil {
			s.record(data, time.Now())
		}
	case "SetEnabled":
		s.setOpen(enabled(call))
	case "Fini":
		s.setOpen(false)
	}
	return common(call)
}

func (s *Speaker) setOpen(open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = open
}

func (s *Speaker) record(data []byte, now time.Time) {
	mono := make([]int16, len(data)/bytesPerFrame)
	for i := range mono {
		left := int16(binary.LittleEndian.Uint16(data[i*bytesPerFrame:]))
		right := int16(binary.LittleEndian.Uint16(data[i*bytesPerFrame+2:]))
		mono[i] = int16((int(left) + int(right)) / 2)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chunks = append(s.chunks, chunk{at: now, mono: mono})
}
