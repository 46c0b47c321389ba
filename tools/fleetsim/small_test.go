package main

import (
	"context"
	"crypto/tls"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/audit"
	"ringfence/provisioning/rollout"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/lock"
)

// lenient starts release 1.1.0 in one ring that forgives much.
func (s *site) lenient() {
	s.t.Helper()
	s.run(s.admin(), "", "rollout", "start", "1.1.0", "--model", string(model), "--target", "fleetsim/1.1.0/phone.efi", "--threshold", "40", "--limit", "10s", "--wait", "10s", "--soak", "0s")
}

// TestOutcomes: what phones say of an update is in the rollout, the record of
// the phone and the audit list.
func TestOutcomes(t *testing.T) {
	s := newSite(t)
	f, m := s.newPhones(10, 100*time.Millisecond)
	must(t, s.owner.importReference(t.Context(), m, "1.1.0"))
	f.roll(dice{silent: 10, reverted: 10, refused: 20, seed: 3})
	s.lenient()
	s.run(s.admin(), "", "rollout", "status", "r1", "--watch")
	v := s.view("r1")
	if r := v.Rings[0]; r.Committed != 6 || r.Failed != 4 || r.Silent != 1 {
		t.Errorf("ring %+v, want 6 committed, 4 failed, 1 of them silent", r)
	}
	var events []audit.Event
	must(t, s.owner.call(t.Context(), "GET", "/v1/audit?limit=1000", nil, &events))
	for _, p := range s.ids(f) {
		var d admin.Device
		must(t, s.owner.call(t.Context(), "GET", "/v1/devices/"+string(p), nil, &d))
		fate := f.outcome(p)
		want := []struct {
			phase   wire.Phase
			release string
			event   string
			cause   string
		}{{wire.PhaseCommitted, "1.1.0", "update.committed", ""}, {wire.PhaseDownloading, "1.0.0", "update.silent", rollout.CauseSilent},
			{wire.PhaseReverted, "1.0.0", "update.reverted", "reverted: register"}, {wire.PhaseRefused, "1.0.0", "update.refused", "refused: threshold"}}[fate]
		if d.Update == nil || d.Update.Phase != want.phase || d.Update.Release != "1.1.0" || d.Release != want.release {
			t.Errorf("%s: update %+v on release %s, want %s on %s", p, d.Update, d.Release, want.phase, want.release)
		}
		if !slices.ContainsFunc(events, func(e audit.Event) bool { return e.Name == want.event && e.Subject == string(p) }) {
			t.Errorf("%s: no audit event %s", p, want.event)
		}
		at := slices.IndexFunc(v.Failed, func(f rollout.Phone) bool { return f.Device == p })
		if (at < 0) != (want.cause == "") || at >= 0 && v.Failed[at].Cause != want.cause {
			t.Errorf("%s: in the failed phones at %d, want cause %q", p, at, want.cause)
		}
	}
}

func (s *site) ids(f *fleet) []device.ID {
	var ids []device.ID
	for _, p := range f.phones {
		ids = append(ids, p.id)
	}
	return ids
}

// stream opens one by hand.
func (s *site) stream(f *fleet, p *phone, release string) *session {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.phones, f.service.config(p.management, wire.ALPN))
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	must(s.t, err)
	one := &session{phone: p, fleet: f, conn: conn, exporter: exporter, image: f.image(release)}
	must(s.t, one.send(&wire.Message{Hello: &wire.Hello{Protocol: wire.Protocol, Schema: lock.Schema, Release: release, BootID: "by hand"}}))
	return one
}

// until reads frames, answers challenges when prove is set, and returns the
// first frame that want accepts.
func (o *session) until(t *testing.T, prove bool, want func(*wire.Message) bool) *wire.Message {
	t.Helper()
	for {
		must(t, o.conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		m, err := wire.ReadFrame(o.conn)
		must(t, err)
		if m.Challenge != nil && prove {
			must(t, o.receive(t.Context(), m))
		}
		if want(m) {
			return m
		}
	}
}

func said(release string, phase wire.Phase) *wire.Message {
	return &wire.Message{Progress: &wire.Progress{Release: release, Phase: phase}}
}

// TestLies: words about updates that are malformed, too early or not backed by
// proof.
func TestLies(t *testing.T) {
	s := newSite(t)
	m, err := newMaker("Sim")
	must(t, err)
	phones, err := s.owner.deliver(t.Context(), m, 3, "1.0.0", "1.1.0")
	must(t, err)
	f := newFleet(&service{s.phones, "localhost", s.owner.roots}, phones, 0)
	must(t, f.enroll(t.Context(), "1.0.0"))
	isPing := func(m *wire.Message) bool { return m.Ping != nil && m.Ping.Answer }
	isBye := func(m *wire.Message) bool { return m.Bye != nil }
	isUpdate := func(m *wire.Message) bool { return m.Update != nil }
	record := func(p *phone) (d admin.Device) {
		must(t, s.owner.call(t.Context(), "GET", "/v1/devices/"+string(p.id), nil, &d))
		return d
	}
	for _, c := range []struct {
		name string
		word *wire.Message
		want string
	}{
		{"phase", said("1.1.0", "exploded"), `unknown update phase "exploded"`},
		{"release", said("one", wire.PhaseCommitted), "major.minor.patch"},
		{"long cause", &wire.Message{Progress: &wire.Progress{Release: "1.1.0", Phase: wire.PhaseRefused, Cause: strings.Repeat("x", 65)}}, "cause of 65"},
		{"long error", &wire.Message{Progress: &wire.Progress{Release: "1.1.0", Phase: wire.PhaseRefused, Error: strings.Repeat("x", 513)}}, "error of 513"},
	} {
		one := s.stream(f, phones[0], "1.0.0")
		one.until(t, true, func(m *wire.Message) bool { return m.Challenge != nil })
		must(t, one.send(c.word))
		if bye := one.until(t, false, isBye); !strings.Contains(bye.Bye.Reason, c.want) {
			t.Errorf("%s: bye %q, want %q", c.name, bye.Bye.Reason, c.want)
		}
	}
	early := s.stream(f, phones[0], "1.0.0")
	must(t, early.send(said("1.1.0", wire.PhaseCommitted), &wire.Message{Ping: &wire.Ping{}}))
	early.until(t, false, isPing)
	if d := record(phones[0]); d.Update != nil {
		t.Errorf("a word before the proof is believed: %+v", d.Update)
	}
	early.conn.Close()

	s.lenient() // nobody is connected
	liar := s.stream(f, phones[1], "1.0.0")
	if u := liar.until(t, true, isUpdate).Update; u.Release != "1.1.0" || u.Target != "fleetsim/1.1.0/phone.efi" {
		t.Errorf("a phone that comes while its ring is open hears %+v", u)
	}
	must(t, liar.send(said("1.1.0", wire.PhaseCommitted), &wire.Message{Ping: &wire.Ping{}}))
	liar.until(t, false, isPing)
	v := s.view("r1")
	if len(v.Failed) != 1 || v.Failed[0].Cause != "claims 1.1.0, proves 1.0.0" {
		t.Errorf("committed without proof: %+v", v.Failed)
	}
}

// TestCommand runs the tool as its command line does.
func TestCommand(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	args := []string{"--admin", s.admin(), "--server", s.phones, "--count", "5", "--releases", "1.0.0,1.1.0", "--reboot", "50ms"}
	go func() { done <- run(ctx, args, io.Discard, io.Discard) }()
	s.connected(5)
	s.lenient()
	s.run(s.admin(), "", "rollout", "status", "r1", "--watch")
	cancel()
	must(t, <-done)
	for _, bad := range [][]string{{}, {"--admin", "x", "--count", "0"}, {"--admin", "x", "more"}, {"--admin", "/nonexistent"}} {
		if err := run(t.Context(), bad, io.Discard, io.Discard); err == nil {
			t.Errorf("fleetsim %v is accepted", bad)
		}
	}
}
