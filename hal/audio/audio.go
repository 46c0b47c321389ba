// Package audio is a phone's microphone and earpiece as the firmware sees
// them: 16-bit PCM moved one DMA period at a time. The capture period is the
// only clock of a call; nothing here has a ticker, a goroutine or a resampler.
// Drivers live in sub-packages (hal/audio/alsa), the scripted fake in
// hal/audio/audiotest.
//
// # Xrun contract
//
// When the device outran its user (capture overrun, playback underrun) the
// driver has already restarted the device by the time Read or Write returns
// [ErrXrun]; the caller counts nothing, may ignore the error and calls again.
// The samples of that period are lost. [Stats] counts every xrun.
package audio

import (
	"fmt"
	"io"
	"time"
)

// Format is what a device is opened with. The zero value is not valid.
type Format struct {
	Rate         int `json:"rate"`          // Hz, 8000..48000
	Channels     int `json:"channels"`      // 1 or 2, interleaved
	PeriodFrames int `json:"period_frames"` // frames of one DMA period, one wake-up
	Periods      int `json:"periods"`       // periods in the ring, 2..32
}

// Wideband is the format of a call: 16 kHz mono, 20 ms periods. Emulated
// codecs wake up to 60 ms late, so the ring holds eight of them.
func Wideband() Format {
	return Format{Rate: 16000, Channels: 1, PeriodFrames: 320, Periods: 8}
}

// Validate names the first field that is out of range.
func (f Format) Validate() error {
	switch {
	case f.Rate < 8000 || f.Rate > 48000:
		return fmt.Errorf("rate %d Hz: %w", f.Rate, ErrFormat)
	case f.Channels < 1 || f.Channels > 2:
		return fmt.Errorf("%d channels: %w", f.Channels, ErrFormat)
	case f.PeriodFrames < 16 || f.PeriodFrames > 4096:
		return fmt.Errorf("period of %d frames: %w", f.PeriodFrames, ErrFormat)
	case f.Periods < 2 || f.Periods > 32:
		return fmt.Errorf("%d periods: %w", f.Periods, ErrFormat)
	}
	return nil
}

// Samples is the length of one period in int16 values, all channels together.
func (f Format) Samples() int { return f.PeriodFrames * f.Channels }

// Period is the duration of one period.
func (f Format) Period() time.Duration {
	return time.Duration(f.PeriodFrames) * time.Second / time.Duration(f.Rate)
}

// Stats counts what a device did since it was opened.
type Stats struct {
	Periods uint64 // moved
	Xruns   uint64 // restarts after an overrun or underrun
	Dropped uint64 // playback periods refused because the ring was full
}

// Capture is an open microphone. It is used by one goroutine.
type Capture interface {
	// Read waits for one DMA period and copies it into pcm, whose length must
	// be Format().Samples(). Errors: ErrXrun (call again), ErrShort,
	// ErrUnplugged and ErrStalled (the device is gone: close it).
	Read(pcm []int16) error
	Format() Format
	Stats() Stats
	io.Closer
}

// Playback is an open earpiece. It is used by one goroutine.
type Playback interface {
	// Write queues one period and never waits: the capture period is the
	// clock. A full ring drops the period and counts it. Errors as for
	// Capture.Read, without ErrStalled.
	Write(pcm []int16) error
	Format() Format
	Stats() Stats
	io.Closer
}

// Switch is a switch of the codec, such as the one of its microphone input. It
// is used by one goroutine at a time.
type Switch interface {
	// Set returns nil only when the driver has the switch as asked.
	Set(on bool) error
	// Close leaves the switch as it is.
	io.Closer
}
