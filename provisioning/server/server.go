// Package server is the phones' one port: TLS 1.3, dispatched by ALPN to HTTP
// (enrolment, vouchers) or to the management stream, with limits on everything
// a stranger can make it hold. It knows no path and no frame.
//
// Specifications: RFC 8446, RFC 7301.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config is what a Server needs; Streams may be nil, the rest is required.
type Config struct {
	Certificate    tls.Certificate
	HTTP           http.Handler
	ConnContext    func(context.Context) context.Context // once per connection
	StreamProtocol string                                // ALPN of Streams
	Streams        func(context.Context, *tls.Conn)      // owns and closes the connection
	MaxConns       int                                   // 1 or more
	MaxPerAddress  int                                   // connections of one network address that are no stream; 0 means 128
	Log            *slog.Logger
}

const (
	handshakeTimeout = 10 * time.Second
	requestTimeout   = 60 * time.Second
	stopTimeout      = 5 * time.Second
)

// Server serves one listener.
type Server struct {
	cfg Config
	tls *tls.Config
}

// New checks cfg. Clients may come without a certificate (a phone fetches its
// voucher before it trusts us); the handlers verify what is shown.
func New(cfg Config) (*Server, error) {
	if len(cfg.Certificate.Certificate) == 0 || cfg.HTTP == nil || cfg.ConnContext == nil || cfg.MaxConns < 1 || cfg.Log == nil {
		return nil, errors.New("server with an incomplete configuration")
	}
	protocols := []string{"http/1.1"}
	if cfg.Streams != nil {
		protocols = append(protocols, cfg.StreamProtocol)
	}
	if cfg.MaxPerAddress <= 0 {
		cfg.MaxPerAddress = 128
	}
	return &Server{cfg, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cfg.Certificate},
		ClientAuth: tls.RequestClientCert, NextProtos: protocols, SessionTicketsDisabled: true}}, nil
}

// Serve accepts until ctx ends, then stops what is running and waits for it.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	handed := &handover{conns: make(chan net.Conn), done: make(chan struct{}), addr: listener.Addr()}
	web := &http.Server{Handler: s.cfg.HTTP, ReadHeaderTimeout: handshakeTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: 2 * requestTimeout, IdleTimeout: requestTimeout, MaxHeaderBytes: 16 << 10,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return s.cfg.ConnContext(ctx) },
		ErrorLog:    slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)}
	var running sync.WaitGroup
	running.Go(func() { _ = web.Serve(handed) }) // it ends with handed
	running.Go(func() {
		<-ctx.Done()
		_ = listener.Close() // ends the loop below
		handed.Close()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if web.Shutdown(end) != nil {
			_ = web.Close() // whoever is slow is cut off
		}
	})
	slots := make(chan struct{}, s.cfg.MaxConns)
	peers := &addresses{limit: s.cfg.MaxPerAddress, open: make(map[string]int)}
	err := s.accept(ctx, listener, slots, func(conn net.Conn) {
		leave, ok := peers.enter(conn.RemoteAddr())
		if !ok {
			<-slots
			s.cfg.Log.Warn("connection refused: too many of this address", "peer", conn.RemoteAddr(), "limit", s.cfg.MaxPerAddress)
			_ = conn.Close() // a refusal needs no more
			return
		}
		running.Go(func() {
			s.dispatch(ctx, conn, handed, func() { <-slots }, leave)
		})
	})
	running.Wait()
	return err
}

func (s *Server) accept(ctx context.Context, listener net.Listener, slots chan struct{}, start func(net.Conn)) error {
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			if conn != nil {
				_ = conn.Close() // too late
			}
			return nil
		}
		if err != nil {
			var temporary net.Error
			if errors.As(err, &temporary) && temporary.Timeout() {
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		select {
		case slots <- struct{}{}:
			start(conn)
		default:
			s.cfg.Log.Warn("connection refused: too many", "peer", conn.RemoteAddr(), "limit", s.cfg.MaxConns)
			_ = conn.Close() // a refusal needs no more
		}
	}
}

// dispatch does the handshake and hands the connection on. free gives its slot
// back once; leave takes it from the count of its address, as soon as it is a
// stream: the phones of a whole site may share an address, and a stream
// without a good certificate ends by itself.
func (s *Server) dispatch(ctx context.Context, raw net.Conn, handed *handover, free, leave func()) {
	conn := tls.Server(&counted{Conn: raw, free: sync.OnceFunc(func() { free(); leave() })}, s.tls)
	shake, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := conn.HandshakeContext(shake)
	cancel()
	if err != nil {
		s.cfg.Log.Debug("handshake", "peer", raw.RemoteAddr(), "error", err)
		_ = conn.Close() // the handshake error says it
		return
	}
	if p := conn.ConnectionState().NegotiatedProtocol; s.cfg.Streams != nil && p == s.cfg.StreamProtocol {
		leave()
		s.cfg.Streams(ctx, conn)
		return
	}
	select {
	case handed.conns <- conn:
	case <-handed.done:
		_ = conn.Close() // the server stops
	}
}

// addresses counts connections by network address without port.
type addresses struct {
	limit int
	mu    sync.Mutex
	open  map[string]int // no entry is zero
}

// enter counts a connection; leave may be called often.
func (a *addresses) enter(peer net.Addr) (leave func(), ok bool) {
	host, _, err := net.SplitHostPort(peer.String())
	if err != nil {
		host = peer.String()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[host] >= a.limit {
		return nil, false
	}
	a.open[host]++
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.open[host]--; a.open[host] == 0 {
			delete(a.open, host)
		}
	}), true
}

// counted gives its slot back when it is closed.
type counted struct {
	net.Conn
	free func()
}

func (c *counted) Close() error {
	c.free()
	return c.Conn.Close()
}

// handover is the listener of the HTTP server: connections after their
// handshake.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }
