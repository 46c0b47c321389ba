package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"ringfence/firmware/identity"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

const (
	pingEvery    = 20 * time.Second
	silenceLimit = 60 * time.Second
	writeTimeout = 10 * time.Second
)

// errUnheard reports a stream that the server closed before it judged us.
var errUnheard = errors.New("the server closed the stream before it looked at us")

// errRenewed ends a stream whose certificate was replaced.
var errRenewed = errors.New("certificate renewed")

// stream is one management connection.
type stream struct {
	agent     *Agent
	conn      *tls.Conn
	own       *identity.Credential
	connected func()
	judged    bool // evidence was sent and the server has not answered yet
	proven    bool // evidence was accepted on this connection
	owed      int  // our pings that the server has not answered
}

// stream keeps the management connection until it breaks, the server says bye
// or a certificate was renewed.
func (a *Agent) stream(ctx context.Context, server *identity.Server, own *identity.Credential, connected func()) error {
	conn, err := server.Dial(ctx, own, wire.ALPN)
	if err != nil {
		return err
	}
	s := &stream{agent: a, conn: conn, own: own, connected: connected}
	ctx, cancel := context.WithCancel(ctx)
	frames, failed, done := make(chan *wire.Message), make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		failed <- s.read(ctx, frames)
	}()
	err = s.run(ctx, server, frames, failed)
	cancel()
	_ = conn.Close() // ends the reader; err says why we are here
	<-done
	return err
}

func (s *stream) read(ctx context.Context, frames chan<- *wire.Message) error {
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(silenceLimit)); err != nil {
			return err
		}
		m, err := wire.ReadFrame(s.conn)
		if err != nil {
			return fmt.Errorf("management stream: %w", err)
		}
		select {
		case frames <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *stream) run(ctx context.Context, server *identity.Server, frames <-chan *wire.Message, failed <-chan error) error {
	a := s.agent
	hello := wire.Hello{Protocol: wire.Protocol, Schema: lock.Schema, Release: a.cfg.Release, BootID: a.bootID, ConfigVersion: a.keeper.Version()}
	if err := s.send(&wire.Message{Hello: &hello}); err != nil {
		return err
	}
	ping, renewal := time.NewTicker(pingEvery), time.NewTicker(a.cfg.Check)
	defer ping.Stop()
	defer renewal.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-frames:
			err = s.handle(m)
		case err = <-failed:
			if !s.proven && !s.judged {
				err = fmt.Errorf("%w: %w", errUnheard, err)
			}
		case r := <-s.reports():
			err = s.send(&wire.Message{Report: &r})
		case p := <-s.progress():
			err = s.send(&wire.Message{Progress: &p})
		case <-ping.C:
			err = s.send(&wire.Message{Ping: &wire.Ping{}})
		case <-renewal.C:
			err = a.renewDue(ctx, server, s.own)
		}
		if err != nil {
			return err
		}
	}
}

// reports is nil, and so never ready, until the server accepted us: nothing
// is taken from the queue that could not be delivered.
func (s *stream) reports() <-chan report.Report {
	if !s.proven || s.judged {
		return nil
	}
	return s.agent.cfg.Reports
}

// progress is nil until the server accepted us, as reports is.
func (s *stream) progress() <-chan wire.Progress {
	if !s.proven || s.judged {
		return nil
	}
	return s.agent.cfg.Progress
}

func (s *stream) handle(m *wire.Message) error {
	switch {
	case m.Challenge != nil:
		return s.prove(m.Challenge.Nonce)
	case m.Config != nil:
		s.accepted()
		return s.receive(m.Config)
	case m.Update != nil:
		s.accepted()
		return s.update(*m.Update)
	case m.Ping != nil && !m.Ping.Answer:
		return s.send(&wire.Message{Ping: &wire.Ping{Answer: true}})
	case m.Ping != nil:
		// Answers come in order: when none is owed, the ping that followed the
		// evidence was answered too.
		if s.owed--; s.owed == 0 {
			s.accepted()
		}
		return nil
	case m.Bye != nil && s.judged:
		return fmt.Errorf("%w: %s", ErrNotProven, m.Bye.Reason)
	case m.Bye != nil && !s.proven:
		return fmt.Errorf("%w: %s", errUnheard, m.Bye.Reason)
	case m.Bye != nil:
		return fmt.Errorf("server ended the stream: %s", m.Bye.Reason)
	}
	return errors.New("server sent a message that only phones send")
}

// prove answers a challenge. The ping behind it is answered only by a server
// that has judged the evidence and kept us.
func (s *stream) prove(nonce []byte) error {
	if len(nonce) != enroll.NonceSize {
		return fmt.Errorf("challenge of %d bytes, want %d", len(nonce), enroll.NonceSize)
	}
	exporter, err := identity.Exporter(s.conn)
	if err != nil {
		return err
	}
	binding := enroll.Binding(nonce, s.own.Leaf.RawSubjectPublicKeyInfo, exporter)
	proof, err := s.agent.attester.Evidence(binding)
	if err != nil {
		return fmt.Errorf("answer challenge: %w", err)
	}
	s.judged = true
	// One write: a server that says bye and closes has then read it all, so
	// that its last word is not lost to a TCP reset.
	return s.send(&wire.Message{Evidence: proof}, &wire.Message{Ping: &wire.Ping{}})
}

// accepted notes the first sign that the server took our evidence.
func (s *stream) accepted() {
	if !s.judged {
		return
	}
	s.judged, s.proven = false, true
	s.connected()
	s.agent.setRefused(false)
	s.agent.unheard = 0
	s.agent.event(EventAttested, "")
	s.agent.activate()
}

// receive applies a configuration and reports its fate; a refused one leaves
// the former in force and the stream open.
func (s *stream) receive(c *wire.Config) error {
	a := s.agent
	result := wire.Result{Version: c.Version, OK: true}
	if kept, err := a.keeper.Receive(c.Sealed); err != nil {
		result.OK, result.Cause, result.Error = false, lock.Cause(err), err.Error()
		a.event(EventConfigRefused, fmt.Sprintf("cause=%s %v", result.Cause, err))
	} else {
		result.Version = kept.Version
		a.event(EventConfigured, fmt.Sprintf("version=%d", kept.Version))
	}
	return s.send(&wire.Message{Result: &result})
}

// update passes the service's wish on; what it says is believed by nobody yet.
func (s *stream) update(u wire.Update) error {
	if !s.proven {
		return errors.New("the server sent an update before it looked at us")
	}
	if s.agent.cfg.OnUpdate == nil {
		return s.send(&wire.Message{Progress: &wire.Progress{Release: u.Release, Phase: wire.PhaseRefused, Cause: "trust",
			Error: "this phone's image holds no release trust, so it can verify no other"}})
	}
	s.agent.cfg.OnUpdate(u)
	return nil
}

func (s *stream) send(messages ...*wire.Message) error {
	var frame []byte
	for _, m := range messages {
		if m.Ping != nil && !m.Ping.Answer {
			s.owed++
		}
		var err error
		if frame, err = wire.AppendFrame(frame, m); err != nil {
			return err
		}
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.conn.Write(frame); err != nil {
		return fmt.Errorf("management stream: %w", err)
	}
	return nil
}
