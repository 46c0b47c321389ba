// Package boards says what a board is: data that identifies it and one opener
// per device. A board package is wiring and nothing else; which board runs is
// chosen in boards/all. There is no "open everything".
package boards

import (
	"io"
	"os"

	"ringfence/hal"
	"ringfence/hal/audio"
	"ringfence/hal/display"
	"ringfence/hal/input"
	"ringfence/hal/slot"
	"ringfence/hal/tpm"
)

// Board is one kind of phone. Each opener belongs to one role, which closes
// what it opened; a device the board does not have is an error that is
// hal.ErrAbsent. No opener is nil.
type Board struct {
	Name       string // as in ringfence.board= and the image
	Compatible string // string that its device tree's root must list
	Interface  string // wired link
	UEFI       bool   // its firmware is UEFI, whose Secure Boot must be on

	// OpenTPM is for PID 1 while it measures, then for the agent.
	OpenTPM func() (*tpm.Device, error)
	// OpenCapture and OpenPlayback are for PID 1, which passes the descriptor
	// to a media process for one call.
	OpenCapture  func() (*os.File, error)
	OpenPlayback func() (*os.File, error)
	// OpenHook is the input device of the hook switch, for PID 1 alone: who
	// can grab it could hide that the handset is on hook.
	OpenHook func() (input.Source, error)
	// OpenKeys is the input device of the keys, for ui, and for PID 1, which
	// takes no other role's word that a person pressed one.
	OpenKeys func() (input.Source, error)
	// OpenScreen is the framebuffer, for ui.
	OpenScreen func() (display.Screen, error)
	// OpenMicLamp is the lamp that is lit while the microphone is open, for PID 1.
	OpenMicLamp func() (hal.Lamp, error)
	// OpenMicSwitch is the codec's own switch of the microphone input, for PID 1.
	OpenMicSwitch func() (audio.Switch, error)
	// OpenWatchdog is for PID 1; it is armed by opening.
	OpenWatchdog func() (hal.Watchdog, error)
	// OpenSlots are the two image slots, for PID 1: whoever writes there decides
	// what the phone boots.
	OpenSlots func() (*slot.Slots, error)
	// Hardware is the revision of this unit's hardware, as releases name it.
	Hardware string
	// OpenRadioBlock is for PID 1.
	OpenRadioBlock func() (RadioBlock, error)
	// Nodes names the device files that a role may open, by role; PID 1 gives
	// them to the role's user.
	Nodes func() (map[string][]string, error)
	// OpenFactoryLine is the serial line of the factory station, for the agent.
	OpenFactoryLine func() (io.ReadWriteCloser, error)
}

// RadioBlock blocks every radio transmitter at once.
type RadioBlock interface {
	BlockAll() error
	Close() error
}
