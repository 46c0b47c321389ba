package media

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket sends and receives datagrams without waiting, without the runtime's
// poller and without allocation: x/sys's Recvfrom would allocate an address for
// each packet.
type socket struct {
	raw    syscall.RawConn
	inet6  bool
	from   unix.RawSockaddrInet6 // large enough for both families
	fromN  uint32
	buf    []byte
	n      int
	to     unix.RawSockaddrInet6
	toN    uintptr
	out    []byte
	errno  syscall.Errno
	recvFn func(uintptr) bool
	sendFn func(uintptr) bool
}

func newSocket(conn *net.UDPConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("media socket: %w", err)
	}
	s := &socket{raw: raw}
	s.recvFn, s.sendFn = s.recvfrom, s.sendto // made once: a method value allocates
	var family int
	err = raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(int(fd)); err == nil {
			if _, ok := sa.(*unix.SockaddrInet6); ok {
				family = unix.AF_INET6
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("media socket: %w", err)
	}
	s.inet6 = family == unix.AF_INET6
	return s, nil
}

// recv gives false when nothing is waiting. Errors such as ICMP's "connection
// refused" are not news about the call: its silence is.
func (s *socket) recv(buf []byte) (int, netip.AddrPort, bool) {
	s.buf = buf
	if err := s.raw.Read(s.recvFn); err != nil || s.errno != 0 {
		return 0, netip.AddrPort{}, false
	}
	return s.n, s.source(), true
}

func (s *socket) recvfrom(fd uintptr) bool {
	s.fromN = uint32(unsafe.Sizeof(s.from))
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&s.buf[0])), uintptr(len(s.buf)),
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&s.from)), uintptr(unsafe.Pointer(&s.fromN)))
	s.n, s.errno = int(n), errno
	return true
}

func (s *socket) source() netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&s.from.Port))[:])
	if s.from.Family == unix.AF_INET {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.from))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(s.from.Addr).Unmap(), port)
}

// peer sets where send goes; an IPv4 socket cannot reach an IPv6 address.
func (s *socket) peer(a netip.AddrPort) error {
	if !s.inet6 && !a.Addr().Unmap().Is4() {
		return fmt.Errorf("remote %v from an IPv4 socket: %w", a, ErrParams)
	}
	s.to = unix.RawSockaddrInet6{}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&s.to.Port))[:], a.Port())
	if s.inet6 {
		s.to.Family, s.to.Addr, s.toN = unix.AF_INET6, a.Addr().As16(), unix.SizeofSockaddrInet6
		return nil
	}
	sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.to))
	sa.Family, sa.Addr, s.toN = unix.AF_INET, a.Addr().Unmap().As4(), unix.SizeofSockaddrInet4
	return nil
}

// send is false when the kernel did not take the packet.
func (s *socket) send(pkt []byte) bool {
	s.out = pkt
	return s.raw.Write(s.sendFn) == nil && s.errno == 0
}

func (s *socket) sendto(fd uintptr) bool {
	_, _, s.errno = unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&s.out[0])), uintptr(len(s.out)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&s.to)), s.toN)
	return true
}
