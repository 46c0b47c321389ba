package segment

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Attach adds a port and returns the device's end of it, a stream socket with
// QEMU's framing, for "-netdev stream,server=off,addr.type=fd". The caller owns
// the file. The port goes when that end, with all its copies, is closed.
func (s *Segment) Attach(name string) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", name, err)
	}
	// Non-blocking on our side only, so that Close interrupts a read.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s: %w", name, err), unix.Close(pair[0]), unix.Close(pair[1]))
	}
	near, far := os.NewFile(uintptr(pair[0]), name), os.NewFile(uintptr(pair[1]), name)
	if _, err := s.add(name, near, true); err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s: %w", name, err), near.Close(), far.Close())
	}
	return far, nil
}

// AttachTAP creates the TAP interface name in this process's network namespace
// (CAP_NET_ADMIN there is enough, as inside an unprivileged user namespace) and
// adds it as a port. The interface is down and without address; it disappears
// with the port.
func (s *Segment) AttachTAP(name string) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("attach TAP %s: open /dev/net/tun: %w", name, err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return errors.Join(fmt.Errorf("attach TAP %s: %w", name, err), unix.Close(fd))
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return errors.Join(fmt.Errorf("attach TAP %s: %w", name, err), unix.Close(fd))
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(fmt.Errorf("attach TAP %s: %w", name, err), unix.Close(fd))
	}
	tap := os.NewFile(uintptr(fd), name) // after TUNSETIFF: before it the poller refuses the descriptor
	if _, err := s.add(name, tap, false); err != nil {
		return errors.Join(fmt.Errorf("attach TAP %s: %w", name, err), tap.Close())
	}
	return nil
}
