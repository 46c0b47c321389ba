package agent

import (
	"strings"
	"testing"

	"ringfence/provisioning/wire"
)

func TestUpdateOffer(t *testing.T) {
	offer := wire.Update{Release: "1.0.1", Target: "lab/virt64/1.0.1/phone.efi"}
	p, s, _ := ready(t)
	s.update = &offer
	got := make(chan wire.Update, 8)
	p.onUpdate, p.progress = func(u wire.Update) { got <- u }, make(chan wire.Progress, 1)
	p.progress <- wire.Progress{Release: "1.0.0", Phase: wire.PhaseCommitted} // waits for the proof
	a, _ := p.run(s)
	if u := <-got; u != offer {
		t.Errorf("offer = %+v, want %+v", u, offer)
	}
	p.await("progress", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.progress) == 1 && s.progress[0].Phase == wire.PhaseCommitted
	})
	client, base, err := a.Repository()
	if err != nil || client == nil || base.Host != "prov.ringfence.test:8443" {
		t.Errorf("Repository() = %v, %v, %v", client, base, err)
	}
}

func TestUpdateWithoutTrust(t *testing.T) {
	p, s, _ := ready(t)
	s.update = &wire.Update{Release: "1.0.1", Target: "x"}
	p.run(s)
	p.await("refusal", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.progress) > 0 && s.progress[0].Phase == wire.PhaseRefused && s.progress[0].Cause == "trust"
	})
}

func TestUpdateBeforeProof(t *testing.T) {
	p, s, _ := ready(t)
	s.update, s.early = &wire.Update{Release: "1.0.1", Target: "x"}, true
	p.onUpdate = func(wire.Update) { t.Error("an offer was taken before the server looked at the phone") }
	p.run(s)
	p.await("disconnect", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, e := range p.events {
			if e.Name == EventDisconnected && strings.Contains(e.Detail, "before it looked at us") {
				return true
			}
		}
		return false
	})
}
