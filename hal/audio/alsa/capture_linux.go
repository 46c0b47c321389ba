package alsa

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/hal/audio"
)

// stallLimit is how long Read waits for a period before it calls the device
// stalled. It is far above any scheduling delay.
const stallLimit = 2 * time.Second

// Capture is an open microphone. It is used by one goroutine.
type Capture struct {
	p       *pcm
	running bool
}

var _ audio.Capture = (*Capture)(nil)

// OpenCapture configures the PCM capture device behind f; it starts with the
// first Read, so that setting up a call cannot overrun it. It takes over f and
// closes it, on error too. f should be open for reading and non-blocking.
func OpenCapture(f *os.File, format audio.Format) (*Capture, error) {
	p, err := open(f, format, unix.PROT_READ)
	if err != nil {
		return nil, err
	}
	return &Capture{p: p}, nil
}

// Read waits for one period and copies it into pcm.
func (c *Capture) Read(pcm []int16) error {
	if c.p.file == nil {
		return audio.ErrClosed
	}
	if len(pcm) != c.p.format.Samples() {
		return fmt.Errorf("read %d samples of %d: %w", len(pcm), c.p.format.Samples(), audio.ErrShort)
	}
	if !c.running {
		if err := c.p.start(); err != nil {
			return fmt.Errorf("capture: %w", pcmError(err))
		}
		c.running = true
	}
	if err := c.wait(); err != nil {
		return c.recover(err)
	}
	copy(pcm, c.p.period())
	c.p.advance(c.p.format.PeriodFrames) // published by the next wait
	c.p.stats.Periods++
	return nil
}

func (c *Capture) wait() error {
	p := c.p
	for {
		if err := p.syncPointers(); err != nil {
			return err
		}
		if p.distance(p.hw, p.appl) >= uintptr(p.format.PeriodFrames) {
			return nil
		}
		if err := p.pollPeriod(unix.POLLIN); err != nil {
			return err
		}
	}
}

// pollPeriod sleeps until the hardware finished a period. An error event is
// left to the next pointer sync, which names it.
func (p *pcm) pollPeriod(events int16) error {
	p.poll[0] = unix.PollFd{Fd: int32(p.fd), Events: events}
	timeout := unix.NsecToTimespec(int64(stallLimit))
	n, err := unix.Ppoll(p.poll[:], &timeout, nil)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("poll PCM: %w", err)
	case n == 0:
		return audio.ErrStalled
	}
	return nil
}

// recover restarts the stream after an overrun; other errors pass through.
func (c *Capture) recover(err error) error {
	if !errors.Is(err, audio.ErrXrun) {
		return fmt.Errorf("capture: %w", err)
	}
	c.p.stats.Xruns++
	if err := c.p.prepare(); err != nil {
		return fmt.Errorf("restart capture: %w", pcmError(err))
	}
	if err := c.p.start(); err != nil {
		return fmt.Errorf("restart capture: %w", pcmError(err))
	}
	return audio.ErrXrun
}

// Format is what the device was opened with.
func (c *Capture) Format() audio.Format { return c.p.format }

// Stats counts since OpenCapture.
func (c *Capture) Stats() audio.Stats { return c.p.stats }

// Close stops the device and closes its descriptor.
func (c *Capture) Close() error { return c.p.close() }
