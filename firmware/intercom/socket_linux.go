package intercom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Listen creates the socket at path. Whoever connects is judged by [Serve];
// the file's mode lets every user try.
func Listen(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("open socket to users: %w", err)
	}
	return l, nil
}

// Inherited returns the listener that was passed as descriptor fd.
func Inherited(fd uintptr, name string) (*net.UnixListener, error) {
	f := os.NewFile(fd, name)
	if f == nil {
		return nil, fmt.Errorf("descriptor %d: not open", fd)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("descriptor %d is a %T, want a UNIX listener", fd, l)
	}
	ul.SetUnlinkOnClose(false) // the socket belongs to whoever made it
	return ul, nil
}

// Serve accepts connections from the given users and serves each with h until
// ctx ends. refused, if
// not nil, is told of each user that was turned away.
func Serve(ctx context.Context, l *net.UnixListener, users []int, h Handler, refused func(uid int)) error {
	if len(users) == 0 || h == nil {
		return errors.New("intercom: no allowed users or no handler")
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // unblocks Accept
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		sock, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		c, err := newConn(sock, h)
		if err != nil || !slices.Contains(users, c.uid) {
			_ = sock.Close()
			if err == nil && refused != nil {
				refused(c.uid)
			}
			continue
		}
		wg.Go(func() { _ = c.run(ctx) }) // its end is the peer's own affair
	}
}

// Dial connects to the socket at path and checks that user uid holds its
// other end. h answers what the other end asks or tells; nil answers nothing.
// The connection lives until Close or the end of ctx.
func Dial(ctx context.Context, path string, uid int, h Handler) (*Conn, error) {
	sock, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	c, err := newConn(sock, h)
	if err != nil {
		_ = sock.Close()
		return nil, err
	}
	if c.uid != uid {
		_ = sock.Close()
		return nil, fmt.Errorf("dial %s: user %d, want %d: %w", path, c.uid, uid, ErrPeer)
	}
	go func() { _ = c.run(ctx) }() // ended by ctx or Close; Done tells
	return c, nil
}

// peer asks the kernel who is at the other end (unix(7), SO_PEERCRED). For a
// listener that was passed on, that is the process that created it.
func peer(sock *net.UnixConn) (uid, pid int, err error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(cerr, err); err != nil {
		return 0, 0, fmt.Errorf("peer credentials: %w", err)
	}
	return int(cred.Uid), int(cred.Pid), nil
}

func write(sock *net.UnixConn, raw []byte, files []*os.File) error {
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	n, _, err := sock.WriteMsgUnix(raw, oob, nil)
	if err != nil {
		return err
	}
	if n != len(raw) {
		return io.ErrShortWrite
	}
	return nil
}

// read receives one datagram. A datagram larger than buf, or one whose
// descriptors were cut off, is an error.
func read(sock *net.UnixConn, buf []byte) (int, []*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4*MaxFiles))
	n, oobn, flags, _, err := sock.ReadMsgUnix(buf, oob)
	if err != nil {
		return 0, nil, err
	}
	files, err := descriptors(oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("datagram of more than %d bytes or %d descriptors", len(buf), MaxFiles)
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		closeAll(files)
		return 0, nil, err
	}
	return n, files, nil
}

func descriptors(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // credentials and the like carry no descriptors
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}
