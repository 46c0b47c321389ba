package slot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ringfence/hal"
)

// Device is a block device as a Disk.
type Device struct{ f *os.File }

var _ Disk = (*Device)(nil)

// OpenDevice opens the block device at path for reading and writing.
func OpenDevice(path string) (*Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0) // O_EXCL: not while it is mounted
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, hal.ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open boot partition: %w", err)
	}
	return &Device{f}, nil
}

// ReadAt implements io.ReaderAt.
func (d *Device) ReadAt(p []byte, off int64) (int, error) { return d.f.ReadAt(p, off) }

// WriteAt implements io.WriterAt.
func (d *Device) WriteAt(p []byte, off int64) (int, error) { return d.f.WriteAt(p, off) }

// Sync flushes the device's cache and then drops the kernel's copy, so that
// reads show what the medium has (ioctl BLKFLSBUF).
func (d *Device) Sync() error {
	if err := d.f.Sync(); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(d.f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("drop cached blocks: %w", err)
	}
	return nil
}

// Close closes the device.
func (d *Device) Close() error { return d.f.Close() }
