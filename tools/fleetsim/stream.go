package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/lock"
)

// report is the fate of an update.
type report struct {
	wire.Progress
	sent bool // on the stream that is open
}

// errReboot and errGone end a stream from the phone's side.
var (
	errReboot = errors.New("reboots")
	errGone   = errors.New("goes silent")
)

const readTimeout = 90 * time.Second // the service pings more often

// session is one open management stream.
type session struct {
	*phone
	fleet    *fleet
	conn     *tls.Conn
	exporter []byte
	image    *appraisetest.Image
}

// serve keeps one stream until it ends. The error is never nil.
func (p *phone) serve(ctx context.Context, f *fleet) error {
	image := f.image(p.running)
	dialer := tls.Dialer{Config: f.service.config(p.management, wire.ALPN)}
	raw, err := dialer.DialContext(ctx, "tcp", f.service.address)
	if err != nil {
		return err
	}
	conn := raw.(*tls.Conn)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	if err != nil {
		return err
	}
	s := &session{phone: p, fleet: f, conn: conn, exporter: exporter, image: image}
	hello := &wire.Hello{Protocol: wire.Protocol, Schema: lock.Schema, Release: p.running, BootID: fmt.Sprintf("%s-%d", p.id, p.boots)}
	if err := s.send(&wire.Message{Hello: hello}); err != nil {
		return err
	}
	if p.pending != nil {
		p.pending.sent = false
	}
	for {
		if err := conn.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
			return err
		}
		m, err := wire.ReadFrame(conn)
		if err != nil {
			return err
		}
		if err := s.receive(ctx, m); err != nil {
			return err
		}
	}
}

func (s *session) send(all ...*wire.Message) error {
	var frames []byte
	for _, m := range all {
		var err error
		if frames, err = wire.AppendFrame(frames, m); err != nil {
			return err
		}
	}
	_, err := s.conn.Write(frames)
	return err
}

func (s *session) receive(ctx context.Context, m *wire.Message) error {
	switch {
	case m.Challenge != nil:
		ev, err := s.tpm.Prove(s.image, m.Challenge.Nonce, s.management.Leaf.RawSubjectPublicKeyInfo, s.exporter)
		if err != nil {
			return err
		}
		if err := s.send(&wire.Message{Evidence: ev}); err != nil {
			return err
		}
		return s.speak()
	case m.Ping != nil && m.Ping.Answer:
		if s.pending != nil && s.pending.sent {
			s.pending = nil // frames are handled in order: it was heard
			s.fleet.count(func(c *counts) { c.heard++ })
		}
	case m.Ping != nil:
		return s.send(&wire.Message{Ping: &wire.Ping{Answer: true}})
	case m.Update != nil:
		s.fleet.told(s.id)
		return s.update(ctx, m.Update)
	case m.Bye != nil:
		return fmt.Errorf("bye: %s", m.Bye.Reason)
	}
	return nil // a configuration: this phone has no line
}

// speak reports the fate of the last update, once per stream until the
// service is known to have heard it.
func (s *session) speak() error {
	if s.pending == nil || s.pending.sent {
		return nil
	}
	s.pending.sent = true
	return s.send(&wire.Message{Progress: &s.pending.Progress}, &wire.Message{Ping: &wire.Ping{}})
}

// update plays the phone's part as the fleet's dice say.
func (s *session) update(ctx context.Context, u *wire.Update) error {
	if u.Release == s.running || s.pending != nil {
		return nil // told again
	}
	step := func(phase wire.Phase) *wire.Message {
		return &wire.Message{Progress: &wire.Progress{Release: u.Release, Phase: phase}}
	}
	outcome := s.fleet.outcome(s.id)
	if outcome == refuses {
		s.pending = &report{Progress: wire.Progress{Release: u.Release, Phase: wire.PhaseRefused, Cause: "threshold", Error: "one signature short"}}
		return s.speak()
	}
	if err := s.send(step(wire.PhaseDownloading)); err != nil {
		return err
	}
	if outcome == silent {
		return errGone
	}
	if err := s.send(step(wire.PhaseWritten), step(wire.PhaseRebooting)); err != nil {
		return err
	}
	_ = s.conn.Close() // the phone goes down: nothing more is said
	if err := pause(ctx, s.fleet.reboot); err != nil {
		return err
	}
	s.boots++
	if outcome == reverts {
		s.pending = &report{Progress: wire.Progress{Release: u.Release, Phase: wire.PhaseReverted, Cause: "register", Error: "no registration"}}
		return errReboot
	}
	s.running = u.Release
	s.pending = &report{Progress: wire.Progress{Release: u.Release, Phase: wire.PhaseCommitted}}
	return errReboot
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
