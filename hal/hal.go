// Package hal names what all device packages share: the error for a device
// that a board does not have, and the interfaces too small for a package of
// their own. It opens nothing: drivers are its sub-packages, chosen by boards.
package hal

import "errors"

// ErrAbsent reports that the board has no such device. It is never the answer
// for a device that the board has and that does not work.
var ErrAbsent = errors.New("the board has no such device")

// PCRs is the part of a TPM 2.0 that measuring needs: the SHA-256 bank.
// Implementations are used by one goroutine at a time.
type PCRs interface {
	// ExtendPCR makes register i SHA-256(old || digest).
	ExtendPCR(i int, digest [32]byte) error
	// ReadPCR returns register i.
	ReadPCR(i int) ([32]byte, error)
	Close() error
}

// Lamp is one on/off indicator.
type Lamp interface {
	Set(on bool) error
}

// Watchdog resets the machine unless it is fed within its timeout.
type Watchdog interface {
	Feed() error
	// Close disarms the watchdog where the hardware allows it.
	Close() error
}
