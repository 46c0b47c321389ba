package alsa

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ringfence/hal/audio"
)

// Playback is an open earpiece. It is used by one goroutine.
type Playback struct {
	p       *pcm
	running bool
}

var _ audio.Playback = (*Playback)(nil)

// OpenPlayback configures the PCM playback device behind f. It starts with the
// first Write, behind half a ring of silence: that is its latency and its
// reserve against late wake-ups. It takes over f and closes it, on error too;
// f must be open for reading and writing (the ring is mapped) and non-blocking.
func OpenPlayback(f *os.File, format audio.Format) (*Playback, error) {
	p, err := open(f, format, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	return &Playback{p: p}, nil
}

// Write queues one period without waiting.
func (b *Playback) Write(pcm []int16) error {
	if b.p.file == nil {
		return audio.ErrClosed
	}
	if len(pcm) != b.p.format.Samples() {
		return fmt.Errorf("write %d samples of %d: %w", len(pcm), b.p.format.Samples(), audio.ErrShort)
	}
	if !b.running {
		b.prefill()
	}
	if b.full() {
		// The pointer of the last sync may be old: look once more.
		if err := b.p.syncPointers(); err != nil {
			return b.recover(err)
		}
		if b.full() {
			b.p.stats.Dropped++
			return nil
		}
	}
	b.put(pcm)
	b.p.stats.Periods++
	if err := b.p.syncPointers(); err != nil {
		return b.recover(err)
	}
	if b.running {
		return nil
	}
	return b.start()
}

func (b *Playback) full() bool {
	used := b.p.distance(b.p.appl, b.p.hw)
	return used+uintptr(b.p.format.PeriodFrames) > b.p.size
}

func (b *Playback) put(pcm []int16) {
	copy(b.p.period(), pcm)
	b.p.advance(b.p.format.PeriodFrames)
}

func (b *Playback) prefill() {
	for range b.p.format.Periods / 2 {
		clear(b.p.period())
		b.p.advance(b.p.format.PeriodFrames)
	}
}

func (b *Playback) start() error {
	if err := b.p.start(); err != nil {
		return fmt.Errorf("playback: %w", pcmError(err))
	}
	b.running = true
	return nil
}

// recover makes the stream ready after an underrun: the next Write prefills
// and starts it. Other errors pass through.
func (b *Playback) recover(err error) error {
	if !errors.Is(err, audio.ErrXrun) {
		return fmt.Errorf("playback: %w", err)
	}
	b.p.stats.Xruns++
	b.running = false
	if err := b.p.prepare(); err != nil {
		return fmt.Errorf("restart playback: %w", pcmError(err))
	}
	return audio.ErrXrun
}

// Format is what the device was opened with.
func (b *Playback) Format() audio.Format { return b.p.format }

// Stats counts since OpenPlayback.
func (b *Playback) Stats() audio.Stats { return b.p.stats }

// Close stops the device at once, without draining, and closes its descriptor.
func (b *Playback) Close() error { return b.p.close() }
