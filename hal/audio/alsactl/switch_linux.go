package alsactl

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"ringfence/hal/audio"
)

// Switch is a switch of a codec, such as the one of its microphone input. It
// is used by one goroutine at a time.
type Switch struct {
	file     *os.File
	id       elemID
	channels uint32
}

var _ audio.Switch = (*Switch)(nil)

// ErrNoSwitch means that the codec has no switch of that name.
var ErrNoSwitch = errors.New("no such switch")

// Open finds the mixer switch with the given name, e.g. "Mic Capture Switch",
// at a control device, e.g. /dev/snd/controlC0. It changes nothing.
func Open(path, name string) (*Switch, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open codec control: %w", err)
	}
	s := &Switch{file: f, id: elemID{iface: ifaceMixer}}
	if err := s.find(name); err != nil {
		return nil, errors.Join(fmt.Errorf("switch %q: %w", name, err), f.Close())
	}
	return s, nil
}

func (s *Switch) find(name string) error {
	if name == "" || len(name) >= len(s.id.name) {
		return ErrNoSwitch
	}
	copy(s.id.name[:], name)
	info := elemInfo{id: s.id}
	if err := s.ioctl(requestInfo(), unsafe.Pointer(&info)); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return ErrNoSwitch
		}
		return err
	}
	if info.kind != typeBoolean || info.count == 0 || info.count > uint32(len(elemValue{}.value)) {
		return fmt.Errorf("element of type %d with %d values: %w", info.kind, info.count, ErrNoSwitch)
	}
	s.id, s.channels = info.id, info.count
	return nil
}

// Set switches all channels and reads back what the driver then has.
func (s *Switch) Set(on bool) error {
	want := uintptr(0)
	if on {
		want = 1
	}
	v := elemValue{id: s.id}
	for i := range s.channels {
		v.value[i] = want
	}
	if err := s.ioctl(requestWrite(), unsafe.Pointer(&v)); err != nil {
		return fmt.Errorf("set codec switch: %w", err)
	}
	v = elemValue{id: s.id}
	if err := s.ioctl(requestRead(), unsafe.Pointer(&v)); err != nil {
		return fmt.Errorf("read codec switch: %w", err)
	}
	for i := range s.channels {
		if v.value[i] != want {
			return fmt.Errorf("codec switch reads %d in channel %d, want %d", v.value[i], i, want)
		}
	}
	return nil
}

// Close leaves the switch as it is.
func (s *Switch) Close() error { return s.file.Close() }

func (s *Switch) ioctl(request uintptr, p unsafe.Pointer) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(p))
	}); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}
