// Package boards says what a board is: data that identifies it and one opener
// per device. A board package is wiring and nothing else; which board runs is
// chosen in boards/all. There is no "open everything".
package boards

import (
	"io"
	"os"

	"ringfence/hal"
)

// Board is one kind of phone. Each opener belongs to one role, which closes
// what it opened; a device the board does not have is an error that is
// hal.ErrAbsent. No opener is nil.
type Board struct {
	Name       string // as in ringfence.board= and the image
	Compatible string // string that its device tree's root must list
	Interface  string // wired link

	// OpenTPM is for PID 1 while it measures, then for the agent.
	OpenTPM func() (hal.PCRs, error)
	// OpenCapture and OpenPlayback are for PID 1, which passes the descriptor
	// to a media process for one call.
	OpenCapture  func() (*os.File, error)
	OpenPlayback func() (*os.File, error)
	// OpenHook is the input device of the hook switch, for PID 1.
	OpenHook func() (*os.File, error)
	// OpenKeys is the input device of the keys, for ui.
	OpenKeys func() (*os.File, error)
	// OpenScreen is the framebuffer, for ui.
	OpenScreen func() (*os.File, error)
	// OpenMicLamp is the lamp that is lit while the microphone is open, for PID 1.
	OpenMicLamp func() (hal.Lamp, error)
	// OpenWatchdog is for PID 1; it is armed by opening.
	OpenWatchdog func() (hal.Watchdog, error)
	// OpenRadioBlock is for PID 1.
	OpenRadioBlock func() (RadioBlock, error)
	// OpenFactoryLine is the serial line of the factory station, for the agent.
	OpenFactoryLine func() (io.ReadWriteCloser, error)
}

// RadioBlock blocks every radio transmitter at once.
type RadioBlock interface {
	BlockAll() error
	Close() error
}
