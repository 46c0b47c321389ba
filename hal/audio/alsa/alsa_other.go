//go:build !linux

package alsa

import (
	"errors"
	"fmt"
	"os"

	"ringfence/hal/audio"
)

// Capture is an open microphone; there is none on this system.
type Capture struct{ audio.Capture }

// Playback is an open earpiece; there is none on this system.
type Playback struct{ audio.Playback }

// OpenCapture refuses: ALSA is Linux. It closes f.
func OpenCapture(f *os.File, _ audio.Format) (*Capture, error) { return nil, refuse(f) }

// OpenPlayback refuses: ALSA is Linux. It closes f.
func OpenPlayback(f *os.File, _ audio.Format) (*Playback, error) { return nil, refuse(f) }

func refuse(f *os.File) error {
	return fmt.Errorf("open PCM %s: %w", f.Name(), errors.Join(errors.ErrUnsupported, f.Close()))
}
