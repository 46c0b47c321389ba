package input

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const wordSize = int(unsafe.Sizeof(uintptr(0)))

// Device is an open evdev device. Next is used by one goroutine at a time;
// State and Close may be called beside it.
type Device struct {
	file    *os.File
	decoder *Decoder
}

var _ Source = (*Device)(nil)

// Open opens an event device, e.g. /dev/input/event0. With grab nobody else gets its events.
func Open(name string, grab bool) (*Device, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open input: %w", err)
	}
	d, err := New(file)
	if err == nil && grab {
		err = d.control(func(fd int) error { return unix.IoctlSetInt(fd, eviocgrab, 1) })
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return d, nil
}

// New takes over an open event device, such as a descriptor that was passed.
func New(file *os.File) (*Device, error) {
	if file == nil {
		return nil, errors.New("input device: no file")
	}
	decoder, err := NewDecoder(file, wordSize)
	if err != nil {
		return nil, err
	}
	return &Device{file: file, decoder: decoder}, nil
}

// Find returns the path below /dev/input of the first device whose kernel name
// contains part, without regard to case. The error is os.ErrNotExist when there is none.
func Find(part string) (string, error) {
	return findIn("/sys/class/input", part)
}

func findIn(class, part string) (string, error) {
	names, err := filepath.Glob(filepath.Join(class, "event*", "device", "name"))
	if err != nil {
		return "", fmt.Errorf("find input: %w", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil && strings.Contains(strings.ToLower(string(text)), strings.ToLower(part)) {
			return "/dev/input/" + filepath.Base(filepath.Dir(filepath.Dir(name))), nil
		}
	}
	return "", fmt.Errorf("find input device %q: %w", part, os.ErrNotExist)
}

// Next waits for the next event.
func (d *Device) Next() (Event, error) { return d.decoder.Next() }

// linux/input.h: EVIOCGSW(len) is _IOC(_IOC_READ, 'E', 0x1b, len), EVIOCGRAB is _IOW('E', 0x90, int).
const (
	eviocgsw8 = 2<<30 | 8<<16 | 'E'<<8 | 0x1b
	eviocgrab = 1<<30 | 4<<16 | 'E'<<8 | 0x90
)

// State reads a switch as it stands now. Switches 0 to 63 are known.
func (d *Device) State(sw Code) (bool, error) {
	if sw > 63 {
		return false, fmt.Errorf("read switch %d: %w", sw, unix.EINVAL)
	}
	var bits [8]byte
	err := d.control(func(fd int) error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), eviocgsw8, uintptr(unsafe.Pointer(&bits)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read switch %d: %w", sw, err)
	}
	// The kernel writes an array of longs; on the little-endian machines we
	// run on that is the same as an array of bytes.
	return bits[sw/8]>>(sw%8)&1 == 1, nil
}

func (d *Device) control(f func(fd int) error) error {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// Close ends a waiting Next.
func (d *Device) Close() error { return d.file.Close() }
