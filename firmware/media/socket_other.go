//go:build !linux

package media

import (
	"net"
	"net/netip"
	"time"
)

// socket is the portable form, for development: a short deadline stands in for
// not waiting.
type socket struct {
	conn *net.UDPConn
	to   netip.AddrPort
}

func newSocket(conn *net.UDPConn) (*socket, error) { return &socket{conn: conn}, nil }

func (s *socket) recv(buf []byte) (int, netip.AddrPort, bool) {
	if s.conn.SetReadDeadline(time.Now().Add(100*time.Microsecond)) != nil {
		return 0, netip.AddrPort{}, false
	}
	n, from, err := s.conn.ReadFromUDPAddrPort(buf)
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err == nil
}

func (s *socket) peer(a netip.AddrPort) error {
	s.to = a
	return nil
}

func (s *socket) send(pkt []byte) bool {
	_, err := s.conn.WriteToUDPAddrPort(pkt, s.to)
	return err == nil
}
