package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// own makes the child the leader of a process group of its own that dies with
// this process, however that ends.
func own(cmd *exec.Cmd) {
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
}

// killGroup ends a child and everything it started. It may have ended already.
func killGroup(cmd *exec.Cmd) error {
	if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", cmd.Process.Pid, err)
	}
	return nil
}

// socketPair returns two connected stream sockets: ours, and one to be
// handed to another process.
func socketPair() (*net.UnixConn, *os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	near, far := os.NewFile(uintptr(pair[0]), "near"), os.NewFile(uintptr(pair[1]), "far")
	defer near.Close()
	conn, err := net.FileConn(near)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("use socket pair: %w", err), far.Close())
	}
	return conn.(*net.UnixConn), far, nil
}

// dbusPair is a socketPair that tells each end the other's credentials, which
// D-Bus authentication asks for. swtpm stumbles over them, so others do without.
func dbusPair() (*net.UnixConn, *os.File, error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	raw, err := near.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask for credentials: %w", err), near.Close(), far.Close())
	}
	var nearErr error
	err = raw.Control(func(fd uintptr) {
		nearErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	})
	farErr := unix.SetsockoptInt(int(far.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err := errors.Join(err, nearErr, farErr); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask for credentials: %w", err), near.Close(), far.Close())
	}
	return near, far, nil
}

// rights is the control message that passes fd, or nothing when it is negative.
func rights(fd int) []byte {
	if fd < 0 {
		return nil
	}
	return unix.UnixRights(fd)
}

// credentials is the control message that names this process to a D-Bus peer.
func credentials() []byte {
	return unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getpid()), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
}

// lockFile waits for an exclusive lock on path, which it creates.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing releases the lock; nothing was written
}
