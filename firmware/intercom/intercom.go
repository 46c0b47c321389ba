// Package intercom is how the phone's processes talk to each other: requests,
// answers and notices as JSON datagrams over UNIX SEQPACKET sockets, with
// descriptors beside them. Each end knows the other's user id from the kernel.
// It is not a network protocol and carries no audio.
//
// Sources: unix(7) (SO_PEERCRED, SCM_RIGHTS).
package intercom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"ringfence/provisioning/wire"
)

// MaxMessage bounds one datagram, in bytes; MaxFiles the descriptors beside it.
const (
	MaxMessage = 64 << 10
	MaxFiles   = 4
)

// ErrPeer reports a peer whose user id is not allowed.
var ErrPeer = errors.New("peer is not allowed on this socket")

// RemoteError is the refusal of the other end.
type RemoteError struct {
	Verb   string
	Reason string
}

// Error names the verb and the reason.
func (e *RemoteError) Error() string { return e.Verb + ": " + e.Reason }

// message is one datagram. A request has an ID and a verb, its answer the same
// ID and Answer set; a notice has no ID.
type message struct {
	ID     uint64          `json:"id,omitempty"`
	Answer bool            `json:"answer,omitempty"`
	Verb   string          `json:"verb,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Request is one request or notice from the other end.
type Request struct {
	Verb  string
	Body  json.RawMessage
	Files []*os.File // owned by the handler, which closes them
	Conn  *Conn      // for notices back to the same end
}

// Decode reads the body strictly into v.
func (r *Request) Decode(v any) error {
	if err := wire.DecodeStrict(r.Body, MaxMessage, v); err != nil {
		return fmt.Errorf("decode %s: %w", r.Verb, err)
	}
	return nil
}

// Handler answers requests. The answer is sent as JSON; a notice's answer is
// dropped. Requests of one connection are handled one at a time, in order.
type Handler func(ctx context.Context, r *Request) (answer any, err error)

// Conn is one connection; both ends may ask. It is safe for concurrent use.
type Conn struct {
	sock    *net.UnixConn
	uid     int
	pid     int
	handler Handler

	mu      sync.Mutex // guards what follows and orders writes
	next    uint64
	waiting map[uint64]chan message
	closed  error
	done    chan struct{}
}

func newConn(sock *net.UnixConn, h Handler) (*Conn, error) {
	uid, pid, err := peer(sock)
	if err != nil {
		return nil, err
	}
	return &Conn{sock: sock, uid: uid, pid: pid, handler: h, waiting: map[uint64]chan message{}, done: make(chan struct{})}, nil
}

// UID is the user id of the other end at the time it connected.
func (c *Conn) UID() int { return c.uid }

// PID is the process id of the other end at the time it connected.
func (c *Conn) PID() int { return c.pid }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close ends the connection; calls that wait fail.
func (c *Conn) Close() error { return c.sock.Close() }

// Call sends a request and waits for its answer, which is decoded strictly
// into out unless out is nil. The files are duplicated to the other end; the
// caller keeps its own.
func (c *Conn) Call(ctx context.Context, verb string, in, out any, files ...*os.File) error {
	answer := make(chan message, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.waiting[id] = answer
	err := c.closed
	if err == nil {
		err = c.sendLocked(message{ID: id, Verb: verb}, in, files)
	}
	c.mu.Unlock()
	defer c.forget(id)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", verb, ctx.Err())
	case <-c.done:
		return fmt.Errorf("%s: %w", verb, net.ErrClosed)
	case m := <-answer:
		if m.Error != "" {
			return &RemoteError{verb, m.Error}
		}
		if out == nil {
			return nil
		}
		return wire.DecodeStrict(m.Body, MaxMessage, out)
	}
}

func (c *Conn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// Notify sends a notice; there is no answer.
func (c *Conn) Notify(verb string, in any, files ...*os.File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return c.closed
	}
	return c.sendLocked(message{Verb: verb}, in, files)
}

func (c *Conn) sendLocked(m message, in any, files []*os.File) error {
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		m.Body = body
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if len(raw) > MaxMessage || len(files) > MaxFiles {
		return fmt.Errorf("%d bytes and %d files: %w", len(raw), len(files), wire.ErrTooLarge)
	}
	if err := errors.Join(c.sock.SetWriteDeadline(time.Now().Add(patience)), write(c.sock, raw, files)); err != nil {
		_ = c.sock.Close() // a peer that does not read must not hold up the others
		return err
	}
	return nil
}

// patience is how long a peer with a full queue is waited for.
const patience = 300 * time.Millisecond

// run reads until the connection ends. It is the only reader.
func (c *Conn) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.sock.Close() }) // unblocks the read
	defer stop()
	defer close(c.done)
	requests := make(chan *pending, 32) // a peer that floods is slowed by its own socket
	var wg sync.WaitGroup
	wg.Go(func() { c.serve(ctx, requests) })
	err := c.readAll(requests)
	c.mu.Lock()
	c.closed = net.ErrClosed
	c.mu.Unlock()
	_ = c.sock.Close() // the reading error is the one that counts
	close(requests)
	wg.Wait()
	return err
}

type pending struct {
	id  uint64
	req *Request
}

func (c *Conn) readAll(requests chan<- *pending) error {
	buf := make([]byte, MaxMessage+1)
	for {
		n, files, err := read(c.sock, buf)
		if err != nil {
			return err
		}
		var m message
		if err := wire.DecodeStrict(buf[:n], MaxMessage, &m); err != nil {
			closeAll(files)
			return fmt.Errorf("message from user %d: %w", c.uid, err)
		}
		if m.Answer {
			closeAll(files) // answers carry none
			c.deliver(m)
			continue
		}
		requests <- &pending{m.ID, &Request{Verb: m.Verb, Body: m.Body, Files: files, Conn: c}}
	}
}

func (c *Conn) deliver(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch, ok := c.waiting[m.ID]; ok {
		delete(c.waiting, m.ID)
		ch <- m
	}
}

func (c *Conn) serve(ctx context.Context, requests <-chan *pending) {
	for p := range requests {
		if c.handler == nil {
			closeAll(p.req.Files)
			c.answer(p.id, nil, errors.New("this end answers no requests"))
			continue
		}
		out, err := c.handler(ctx, p.req)
		c.answer(p.id, out, err)
	}
}

func (c *Conn) answer(id uint64, out any, err error) {
	if id == 0 {
		return
	}
	m := message{ID: id, Answer: true}
	if err != nil {
		m.Error = err.Error()
		out = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return
	}
	if err := c.sendLocked(m, out, nil); err != nil {
		_ = c.sock.Close() // the asker must not wait for ever
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // nothing was written through it
	}
}
