package sip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"
)

// Limits of one message, in bytes. Header parameters are parsed in quadratic
// time by the library, so the head is short.
const (
	maxHead = 8 << 10
	maxBody = 8 << 10
	maxSkip = 256 << 10 // a body that is read and thrown away
)

const settleTime = 50 * time.Millisecond

// guard stands between the connection and sipgo: Read returns only whole
// messages that passed validate, in canonical form. A refused request is
// answered here and the connection lives on; only a message whose end cannot
// be found closes it.
type guard struct {
	net.Conn
	in      *bufio.Reader
	idle    time.Duration // silence after which the peer is dead
	log     *slog.Logger
	pending []byte
	down    chan struct{}
	once    sync.Once
	err     error // read after down is closed
}

func newGuard(c net.Conn, idle time.Duration, log *slog.Logger) *guard {
	return &guard{Conn: c, in: bufio.NewReaderSize(c, maxHead), idle: idle, log: log, down: make(chan struct{})}
}

// Read implements net.Conn.
func (g *guard) Read(b []byte) (int, error) {
	for len(g.pending) == 0 {
		msg, err := g.next()
		if err != nil {
			g.settle(err)
			g.fail(err)
			return 0, err
		}
		g.pending = msg
	}
	n := copy(b, g.pending)
	g.pending = g.pending[n:]
	return n, nil
}

// settle lets sipgo finish the messages before an end of stream. It handles
// each in a goroutine of its own, and a refusal that the server sends right
// before it closes would otherwise lose the race with the close.
func (g *guard) settle(err error) {
	if !errors.Is(err, io.EOF) {
		return
	}
	select {
	case <-time.After(settleTime):
	case <-g.down:
	}
}

// Close implements net.Conn.
func (g *guard) Close() error {
	g.fail(net.ErrClosed)
	return g.Conn.Close()
}

func (g *guard) fail(err error) {
	g.once.Do(func() { g.err = err; close(g.down) })
}

// cause is why the connection ended, nil while it lives.
func (g *guard) cause() error {
	select {
	case <-g.down:
		return g.err
	default:
		return nil
	}
}

// ping asks for a sign of life (RFC 5626 section 3.5.1); the answer only has
// to arrive before Read's deadline.
func (g *guard) ping() error { return g.write([]byte("\r\n\r\n")) }

func (g *guard) write(b []byte) error {
	if err := g.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err := g.Conn.Write(b)
	return err
}

// next returns one valid message, or nil for a refused one or a keep-alive.
func (g *guard) next() ([]byte, error) {
	if err := g.SetReadDeadline(time.Now().Add(g.idle)); err != nil {
		return nil, err
	}
	head, err := g.readHead()
	if err != nil || head == nil {
		return nil, err
	}
	size, err := contentLength(head)
	if err != nil {
		return nil, err
	}
	if size > maxBody {
		if _, err := io.CopyN(io.Discard, g.in, int64(size)); err != nil {
			return nil, err
		}
		return nil, g.refuse(head, refusal{513, "Message Too Large"})
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(g.in, body); err != nil {
		return nil, err
	}
	msg, bad := validate(head, body)
	if bad != nil {
		return nil, g.refuse(head, *bad)
	}
	return msg, nil
}

// readHead reads up to and without the empty line. Empty lines between
// messages are keep-alives: nil, nil.
func (g *guard) readHead() ([]byte, error) {
	var head []byte
	for {
		line, err := g.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) || len(head)+len(line) > maxHead {
			return nil, fmt.Errorf("message head over %d bytes", maxHead)
		}
		if err != nil {
			return nil, err
		}
		if string(line) != "\r\n" {
			head = append(head, line...)
			continue
		}
		if len(head) > 0 {
			return head, nil
		}
		return nil, nil
	}
}

// contentLength frames the message. None, two or a bad one leave its end
// unknown, on which proxies and phones may differ: the connection ends.
func contentLength(head []byte) (int, error) {
	found := -1
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		if !bytes.EqualFold(name, []byte("Content-Length")) && !bytes.EqualFold(name, []byte("l")) {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 31)
		if err != nil || found >= 0 || n > maxSkip {
			return 0, errors.New("message with a wrong, doubled or huge Content-Length")
		}
		found = int(n)
	}
	if found < 0 {
		return 0, errors.New("message without Content-Length")
	}
	return found, nil
}

// refuse answers a bad request where its head allows an answer.
func (g *guard) refuse(head []byte, r refusal) error {
	g.log.Warn("SIP message refused", "code", r.code, "reason", r.reason)
	answer := refusalResponse(head, r)
	if answer == nil {
		return nil
	}
	return g.write(answer)
}
