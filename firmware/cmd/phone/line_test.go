package main

import (
	"io"
	"strings"
	"testing"

	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

func TestLinePlan(t *testing.T) {
	a, again := &lock.Config{Lines: []lock.Line{{User: "100"}}}, &lock.Config{Version: 2, Lines: []lock.Line{{User: "100"}}}
	b := &lock.Config{Lines: []lock.Line{{User: "101"}}}
	var p linePlan
	for i, s := range []struct {
		config *lock.Config
		proven bool
		want   change
	}{
		{nil, true, keepLine}, // proof without a configuration
		{a, false, startLine},
		{again, false, keepLine},
		{nil, true, keepLine},
		{nil, false, stopLine}, // refused
		{nil, false, keepLine},
		{b, false, keepLine},   // a configuration does not start a refused phone
		{nil, true, startLine}, // accepted again
		{b, false, keepLine},
		{a, false, startLine},
	} {
		got := p.judged
		if s.config != nil {
			got = func(bool) change { return p.configured(s.config) }
		}
		if c := got(s.proven); c != s.want {
			t.Errorf("step %d: change %d, want %d", i, c, s.want)
		}
	}
}

// TestUnproven: a refused phone is not registered, says why to who asks, and a
// new proof ends that.
func TestUnproven(t *testing.T) {
	m := &machine{hub: newHub(), log: newLog(io.Discard, roleInit)}
	if err := m.line(lineMessage{Kind: "registered"}); err != nil {
		t.Fatal(err)
	}
	if err := m.unproven(unprovenMessage{"kernel differs"}); err != nil {
		t.Fatal(err)
	}
	if m.hub.registered || m.hub.proof == nil || m.hub.proof.Proven || m.hub.proof.Why != "kernel differs" {
		t.Errorf("after a refusal: registered %t, proof %+v", m.hub.registered, m.hub.proof)
	}
	m.reached("attested", uidCall) // not for the call role to say
	if m.hub.proof.Proven {
		t.Error("the call role proved the phone")
	}
	m.reached("attested", uidAgent)
	if !m.hub.proof.Proven {
		t.Error("an accepted phone stays refused")
	}
}

// TestCallRoleDies: what it had is gone with it.
func TestCallRoleDies(t *testing.T) {
	m := &machine{hub: newHub(), log: newLog(io.Discard, roleInit)}
	for _, kind := range []string{"registered", "answered"} {
		if err := m.line(lineMessage{Kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	m.ended(roleCall, 1, "exit 2")
	if m.hub.registered || m.hub.inCall {
		t.Errorf("after its end: registered %t, in call %t", m.hub.registered, m.hub.inCall)
	}
}

// TestPlantedListener: it is told once, what belongs there is not.
func TestPlantedListener(t *testing.T) {
	h := newHub()
	planted := report.Socket{Proto: "tcp", Local: "0.0.0.0:8080", Remote: "0.0.0.0:0", State: "listen", UID: 0}
	for range 3 {
		h.checkSockets([]report.Socket{planted, {Proto: "tcp", Local: "10.77.0.20:40000", Remote: "10.77.0.1:8443", State: "established", UID: uidAgent}})
	}
	if len(h.events) != 1 || h.events[0].Name != "socket.unexpected" || !strings.Contains(h.events[0].Detail, "0.0.0.0:8080") {
		t.Errorf("events %+v, want the listener once", h.events)
	}
}
