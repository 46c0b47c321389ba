package sip

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
)

var errDial = errors.New("the SIP library may not dial")

// refuseDial keeps sipgo from opening a connection of its own choice, for
// example to a host that a stranger put into a Record-Route.
func refuseDial(context.Context, string, string, syscall.RawConn) error { return errDial }

// feed is a net.Listener without a socket: it hands the connections that we
// dialled to sipgo as if they had come in.
type feed struct {
	conns  chan net.Conn
	added  chan struct{}
	closed chan struct{}
	once   sync.Once
	handed bool // only touched by Accept
}

func newFeed() *feed {
	return &feed{conns: make(chan net.Conn), added: make(chan struct{}), closed: make(chan struct{})}
}

// hand gives c to sipgo and returns when it is usable: sipgo asks for the
// next connection only after it has added this one.
func (f *feed) hand(ctx context.Context, c net.Conn) error {
	select {
	case f.conns <- c:
	case <-f.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-f.added:
		return nil
	case <-f.closed:
		return net.ErrClosed
	}
}

// Accept implements net.Listener.
func (f *feed) Accept() (net.Conn, error) {
	if f.handed {
		select {
		case f.added <- struct{}{}:
		case <-f.closed:
			return nil, net.ErrClosed
		}
	}
	select {
	case c := <-f.conns:
		f.handed = true
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *feed) Close() error { f.once.Do(func() { close(f.closed) }); return nil }

// Addr implements net.Listener; nothing listens there.
func (f *feed) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5061} }
