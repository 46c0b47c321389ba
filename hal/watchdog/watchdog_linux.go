// Package watchdog arms and feeds the machine's watchdog timer. Who feeds it,
// and what must be well for that, is the caller's matter.
//
// Source: Linux Documentation/watchdog/watchdog-api.rst.
package watchdog

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ringfence/hal"
)

// Device is an armed watchdog.
type Device struct{ f *os.File }

var _ hal.Watchdog = (*Device)(nil)

// Open arms the watchdog at path with a time-out in seconds.
func Open(path string, seconds int) (*Device, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, hal.ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open watchdog: %w", err)
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("set watchdog to %d s: %w", seconds, err)
	}
	return &Device{f}, nil
}

// Feed starts the time-out anew.
func (d *Device) Feed() error {
	_, err := d.f.Write([]byte{0})
	return err
}

// Close disarms: 'V' is the magic character that says it is meant.
func (d *Device) Close() error {
	_, err := d.f.Write([]byte{'V'})
	return errors.Join(err, d.f.Close())
}
