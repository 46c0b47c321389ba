// Package rfkill reads and blocks radio transmitters through the kernel's
// rfkill device. It does not decide which radios are allowed: that is
// firmware/radio.
//
// Source: Linux include/uapi/linux/rfkill.h (struct rfkill_event).
package rfkill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ringfence/hal"
)

// Type is the kind of transmitter.
type Type uint8

// Types of include/uapi/linux/rfkill.h; All addresses every type at once.
const (
	All       Type = 0
	WLAN      Type = 1
	Bluetooth Type = 2
)

const (
	opChangeAll = 3
	eventSize   = 8 // RFKILL_EVENT_SIZE_V1
)

// Device is an open /dev/rfkill. It is safe for concurrent use.
type Device struct{ f *os.File }

// Event is one change of one transmitter.
type Event struct {
	Index      uint32
	Type       Type
	Op         uint8 // 0 add, 1 delete, 2 change
	Soft, Hard bool  // blocked by software, by a switch
}

// Open opens path, normally /dev/rfkill. A kernel without rfkill has no such
// file: hal.ErrAbsent.
func Open(path string) (*Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, hal.ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open rfkill: %w", err)
	}
	return &Device{f}, nil
}

// BlockAll soft-blocks every transmitter, present and to come.
func (d *Device) BlockAll() error {
	if _, err := d.f.Write(changeAll()); err != nil {
		return fmt.Errorf("block all radios: %w", err)
	}
	return nil
}

func changeAll() []byte {
	msg := make([]byte, eventSize)
	msg[4] = byte(All)
	msg[5] = opChangeAll
	msg[6] = 1 // soft
	return msg
}

// Read waits for the next event.
func (d *Device) Read() (Event, error) {
	var buf [64]byte
	n, err := d.f.Read(buf[:])
	if err != nil {
		return Event{}, fmt.Errorf("read rfkill event: %w", err)
	}
	return parse(buf[:n])
}

func parse(b []byte) (Event, error) {
	if len(b) < eventSize {
		return Event{}, fmt.Errorf("rfkill event of %d bytes, want %d", len(b), eventSize)
	}
	return Event{Index: binary.NativeEndian.Uint32(b), Type: Type(b[4]), Op: b[5], Soft: b[6] != 0, Hard: b[7] != 0}, nil
}

// Close closes the device; a Read that waits ends.
func (d *Device) Close() error { return d.f.Close() }
