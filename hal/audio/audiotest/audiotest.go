// Package audiotest is a microphone and an earpiece for tests: what is said and
// what was heard are slices, and faults come by script. It is no sound card
// emulator: rate conversion and real DMA are tested on boards.
package audiotest

import (
	"fmt"
	"sync"
	"time"

	"ringfence/hal/audio"
)

// Fault is what a device does at one period instead of working.
type Fault int

// Faults, in the words of hal/audio's contract.
const (
	Xrun   Fault = iota + 1 // this period is lost, the next works
	Short                   // the driver moved less than a period
	Stall                   // no period came in time
	Unplug                  // this and all later periods fail
)

func (f Fault) err() error {
	switch f {
	case Xrun:
		return audio.ErrXrun
	case Short:
		return audio.ErrShort
	case Stall:
		return audio.ErrStalled
	default:
		return audio.ErrUnplugged
	}
}

// Script says which period (from 0) fails and how.
type Script map[uint64]Fault

// Clock paces a capture device. A nil Clock never waits.
type Clock func()

// Every returns a clock that keeps to real time without drift: the n-th call
// returns n periods after the first one. It is for one device.
func Every(period time.Duration) Clock {
	var next time.Time
	return func() {
		if next.IsZero() {
			next = time.Now()
		}
		next = next.Add(period)
		time.Sleep(time.Until(next))
	}
}

// device is the half that both directions share.
type device struct {
	mu     sync.Mutex
	format audio.Format
	script Script
	at     uint64
	gone   bool
	closed bool
	stats  audio.Stats
}

// step makes one period happen and returns its fault.
func (d *device) step(samples int) error {
	if d.closed {
		return audio.ErrClosed
	}
	if samples != d.format.Samples() {
		return fmt.Errorf("%d samples of %d: %w", samples, d.format.Samples(), audio.ErrShort)
	}
	fault := d.script[d.at]
	d.at++
	if d.gone || fault == Unplug {
		d.gone = true
		return audio.ErrUnplugged
	}
	if fault == Xrun {
		d.stats.Xruns++
	}
	if fault != 0 {
		return fault.err()
	}
	d.stats.Periods++
	return nil
}

// Format is what the device was made with.
func (d *device) Format() audio.Format { return d.format }

// Stats counts since the device was made.
func (d *device) Stats() audio.Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Close ends the device; every later call gives audio.ErrClosed.
func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return audio.ErrClosed
	}
	d.closed = true
	return nil
}

// Capture is a scripted microphone. It is safe for concurrent use.
type Capture struct {
	device
	said  []int16
	pos   int
	clock Clock
}

var _ audio.Capture = (*Capture)(nil)

// NewCapture makes a microphone that hears said once and silence after it. It
// keeps said and does not change it.
func NewCapture(format audio.Format, said []int16, clock Clock, script Script) (*Capture, error) {
	if err := format.Validate(); err != nil {
		return nil, fmt.Errorf("open fake capture: %w", err)
	}
	return &Capture{device: device{format: format, script: script}, said: said, clock: clock}, nil
}

// Read gives the next period.
func (c *Capture) Read(pcm []int16) error {
	if c.clock != nil {
		c.clock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.step(len(pcm))
	n := min(len(pcm), len(c.said)-c.pos)
	if err == nil {
		clear(pcm[copy(pcm, c.said[c.pos:c.pos+n]):])
	}
	c.pos += n // a faulty period is lost, as on hardware
	return err
}

// Playback is a scripted earpiece. It is safe for concurrent use.
type Playback struct {
	device
	heard []int16
	keep  int
}

var _ audio.Playback = (*Playback)(nil)

// NewPlayback makes an earpiece that remembers the first keep samples.
func NewPlayback(format audio.Format, keep int, script Script) (*Playback, error) {
	if err := format.Validate(); err != nil {
		return nil, fmt.Errorf("open fake playback: %w", err)
	}
	return &Playback{device: device{format: format, script: script}, heard: make([]int16, 0, keep), keep: keep}, nil
}

// Write plays one period.
func (p *Playback) Write(pcm []int16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.step(len(pcm)); err != nil {
		return err
	}
	p.heard = append(p.heard, pcm[:min(len(pcm), p.keep-len(p.heard))]...)
	return nil
}

// Heard is a copy of what was played so far.
func (p *Playback) Heard() []int16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]int16(nil), p.heard...)
}
