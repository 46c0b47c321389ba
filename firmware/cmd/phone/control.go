package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ringfence/firmware/intercom"
	"ringfence/firmware/micgate"
	"ringfence/firmware/network"
)

// Ports that are let out before a configuration says more.
const (
	provisioningPort = 8443
	sipTLSPort       = 5061
)

// event reports something that init saw.
func (m *machine) event(name, detail string) {
	detail = shorten(clean(detail))
	m.hub.event(eventMessage{Time: time.Now().UTC(), Role: roleInit, Name: name, Detail: detail})
}

func (m *machine) leased(l leaseMessage) {
	m.hub.mu.Lock()
	m.hub.lease = &l
	m.hub.tell(verbLease, l, uidAgent, uidCall, uidUI)
	m.hub.mu.Unlock()
	m.stage("network")
	m.filter()
}

// configured takes a verified configuration from the agent: the filter is
// opened for it, the gate may open, and the call role starts.
func (m *machine) configured(in configMessage) error {
	if in.Config == nil {
		return errors.New("no configuration")
	}
	if err := in.Config.Validate(); err != nil {
		return err
	}
	m.hub.mu.Lock()
	m.hub.config = &in
	m.hub.tell(verbConfig, in, uidCall, uidUI)
	m.hub.mu.Unlock()
	m.filter()
	if m.gate != nil {
		m.gate.step(micgate.PolicyVerified)
	}
	return m.start(roleCall)
}

// unproven is said by the agent when the service refused the phone's proof:
// the line stops and the screen says why, until it is accepted again.
func (m *machine) unproven(in unprovenMessage) error {
	m.judged(proofMessage{Why: clean(in.Why)})
	if m.gate != nil {
		m.gate.step(micgate.PolicyLost)
	}
	return nil
}

func (m *machine) judged(proof proofMessage) {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	m.hub.proof = &proof
	m.hub.registered = m.hub.registered && proof.Proven
	m.hub.tell(verbProof, proof, uidCall, uidUI)
}

// reached takes a stage from a role. A phone that was refused and is accepted
// again may open its microphone again.
func (m *machine) reached(name string, uid int) {
	m.stage(name)
	if name != "attested" || uid != uidAgent {
		return
	}
	m.judged(proofMessage{Proven: true})
	if m.gate == nil {
		return
	}
	m.hub.mu.Lock()
	configured := m.hub.config != nil
	m.hub.mu.Unlock()
	if configured {
		m.gate.step(micgate.PolicyVerified)
	}
}

// policy is what the packet filter must let through now.
func (h *hub) policy() network.Policy {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := network.Policy{Agent: uidAgent, Call: uidCall, Media: uidMedia,
		AgentPorts: []uint16{provisioningPort}, CallPorts: []uint16{sipTLSPort}}
	if h.lease != nil {
		p.Resolvers = append([]netip.Addr(nil), h.lease.Resolvers...)
		p.AgentPorts = hintPorts(h.lease.Hints)
	}
	if h.config != nil {
		c := h.config.Config
		p.RTPMin, p.RTPMax = c.Media.PortMin, c.Media.PortMax
		if port, err := portOf(c.CallServer.Address); err == nil {
			p.CallPorts = []uint16{port}
		}
	}
	return p
}

func hintPorts(hints []string) []uint16 {
	ports := []uint16{provisioningPort}
	for _, h := range hints {
		u, err := url.Parse(h)
		if err != nil {
			continue // network accepted it, so this does not happen
		}
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if u.Port() == "" {
			port, err = 443, nil
		}
		if err == nil && port != 0 && port != provisioningPort {
			ports = append(ports, uint16(port))
		}
	}
	return ports
}

func portOf(address string) (uint16, error) {
	_, text, ok := strings.Cut(address, ":")
	if !ok {
		return 0, fmt.Errorf("address %q without a port", address)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	return uint16(port), err
}

// filter has net load the packet filter anew.
func (m *machine) filter() {
	ctx, cancel := context.WithTimeout(m.ctx, 5*time.Second)
	defer cancel()
	if err := m.ask(ctx, roleNet, verbPolicy, m.hub.policy(), nil); err != nil {
		m.log.Error("packet filter not changed", "error", err)
	}
}

// ask calls another role once.
func (m *machine) ask(ctx context.Context, role, verb string, in, out any) error {
	c, err := intercom.Dial(m.ctx, socket(role), uidInit, nil) // the socket is init's own
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, verb, in, out)
}

// callerDied is told by the supervisor: a call without its signalling must not
// keep the microphone open, nor a port reserved.
func (m *machine) callerDied() {
	m.hub.mu.Lock()
	m.hub.registered, m.hub.inCall, m.hub.engaged = false, false, false
	m.hub.tell(verbLine, lineMessage{Kind: "unregistered", Reason: "the call process ended"}, uidUI, uidAgent)
	m.hub.tell(verbLine, lineMessage{Kind: "ended", Reason: "the call process ended"}, uidUI, uidAgent)
	m.hub.mu.Unlock()
	if m.gate == nil {
		return
	}
	m.work.Go(func() { // the supervisor waits for nobody; this waits for it
		if _, err := m.gate.stop(); err != nil {
			m.log.Error("gate", "error", err)
		}
	})
}

// line is what the call role says of itself.
func (m *machine) line(in lineMessage) error {
	m.hub.mu.Lock()
	switch in.Kind {
	case "registered":
		m.hub.registered = true
	case "unregistered":
		m.hub.registered = false
	case "ringing in", "ringing out":
		m.hub.engaged = true
	case "answered":
		m.hub.inCall, m.hub.engaged = true, true
	case "ended":
		m.hub.inCall, m.hub.engaged = false, false
	}
	m.hub.tell(verbLine, in, uidUI, uidAgent)
	m.hub.mu.Unlock()
	if in.Kind == "registered" {
		m.stage("registered")
	}
	if in.Kind == "ended" && m.gate != nil {
		m.gate.step(micgate.CallEnded)
	}
	return nil
}
