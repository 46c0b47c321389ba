package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"ringfence/firmware/intercom"
	"ringfence/firmware/network"
	"ringfence/firmware/sip"
	"ringfence/firmware/supervise"
	"ringfence/provisioning/wire/report"
)

// hub is what init knows and whom it tells. It takes each role's word only
// for what is that role's to say.
type hub struct {
	roles []supervise.Role

	mu         sync.Mutex // guards what follows
	once       bool
	opened     error
	told       map[*intercom.Conn]struct{}
	stages     []report.Stage
	radios     []string
	events     []eventMessage // until the agent listens; at most maxEvents
	records    []recordMessage
	lease      *leaseMessage
	config     *configMessage
	proof      *proofMessage // nil before the service judged
	registered bool
	inCall     bool
	engaged    bool // a call is up or on its way
	offHook    bool
	machine    *machine
	sockets    map[string]struct{} // unexpected ones that were told; at most maxEvents
}

// maxEvents bounds what waits for the agent; the oldest is dropped.
const maxEvents = 64

func newHub() *hub {
	return &hub{told: map[*intercom.Conn]struct{}{}, radios: []string{}, sockets: map[string]struct{}{}}
}

// open makes the sockets of all roles and begins to answer at init's own.
func (h *hub) open(m *machine) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.once {
		return h.opened
	}
	h.once, h.machine = true, m
	l, err := intercom.Listen(socket(roleInit))
	if err != nil {
		h.opened = err
		return err
	}
	if h.roles, h.opened = withSockets(append(table(), labTable()...)); h.opened != nil {
		return h.opened
	}
	users := []int{uidInit, uidNet, uidAgent, uidUI, uidCall}
	m.work.Go(func() {
		err := intercom.Serve(m.ctx, l, users, h.handle, func(uid int) { m.log.Warn("refused", "user", uid) })
		m.log.Error("intercom ended", "error", err)
	})
	return nil
}

// allowed says who may ask what.
func allowed(verb string, uid int) bool {
	who := map[string][]int{
		verbSubscribe: {uidNet, uidAgent, uidUI, uidCall},
		verbStage:     {uidNet, uidAgent, uidCall},
		verbEvent:     {uidNet, uidAgent, uidUI, uidCall},
		verbLease:     {uidNet},
		verbConfig:    {uidAgent},
		verbUnproven:  {uidAgent},
		verbStatus:    {uidAgent},
		verbLine:      {uidCall},
		verbRecord:    {uidCall},
		verbReserve:   {uidCall},
		verbStart:     {uidCall},
		verbStop:      {uidCall},
		verbSlots:     {uidAgent},
		verbInstall:   {uidAgent},
		verbRestart:   {uidAgent},
		verbCommit:    {uidAgent},
	}
	return slices.Contains(who[verb], uid)
}

var errNotYours = errors.New("not for this role to ask")

func (h *hub) handle(ctx context.Context, r *intercom.Request) (any, error) {
	for _, f := range r.Files { // duplicates, for the time of the answer
		defer f.Close()
	}
	if !allowed(r.Verb, r.Conn.UID()) {
		return nil, errNotYours
	}
	m := h.machine
	switch r.Verb {
	case verbSubscribe:
		return nil, h.subscribe(r.Conn)
	case verbStatus:
		return h.status()
	case verbStage:
		return decode(r, func(in stageMessage) error { m.reached(in.Name, r.Conn.UID()); return nil })
	case verbEvent:
		return decode(r, func(in eventMessage) error { h.event(in); return nil })
	case verbLease:
		return decode(r, func(in leaseMessage) error { m.leased(in); return nil })
	case verbConfig:
		return decode(r, m.configured)
	case verbUnproven:
		return decode(r, m.unproven)
	case verbLine:
		return decode(r, m.line)
	case verbRecord:
		return decode(r, func(in recordMessage) error { h.record(in); return nil })
	}
	if answer, mine, err := m.slotRequest(r); mine {
		return answer, err
	}
	return m.mediaRequest(ctx, r)
}

// decode reads a request strictly and passes it on.
func decode[T any](r *intercom.Request, f func(T) error) (any, error) {
	var in T
	if err := r.Decode(&in); err != nil {
		return nil, err
	}
	return nil, f(in)
}

// subscribe adds a listener and tells it the present state.
func (h *hub) subscribe(c *intercom.Conn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for old := range h.told {
		select {
		case <-old.Done():
			delete(h.told, old)
		default:
		}
	}
	h.told[c] = struct{}{}
	errs := []error{c.Notify(verbHook, hookMessage{h.offHook})}
	if h.lease != nil {
		errs = append(errs, c.Notify(verbLease, *h.lease))
	}
	if h.config != nil && c.UID() != uidAgent {
		errs = append(errs, c.Notify(verbConfig, *h.config))
	}
	if h.registered && c.UID() == uidUI {
		errs = append(errs, c.Notify(verbLine, lineMessage{Kind: "registered"}))
	}
	if h.proof != nil && c.UID() != uidAgent {
		errs = append(errs, c.Notify(verbProof, *h.proof))
	}
	if c.UID() == uidAgent {
		errs = append(errs, h.lineNow(c)...)
		for _, e := range h.events {
			errs = append(errs, c.Notify(verbEvent, e))
		}
		for _, r := range h.records {
			errs = append(errs, c.Notify(verbRecord, r))
		}
		h.events, h.records = nil, nil
	}
	return errors.Join(errs...)
}

// lineNow tells the agent what it would have heard had it listened earlier.
func (h *hub) lineNow(c *intercom.Conn) (errs []error) {
	if h.registered {
		errs = append(errs, c.Notify(verbLine, lineMessage{Kind: string(sip.Registered)}))
	}
	if h.engaged {
		errs = append(errs, c.Notify(verbLine, lineMessage{Kind: string(sip.Answered)}))
	}
	return errs
}

// tell sends a notice to the subscribed roles among users and returns how many
// heard it. h.mu is held.
func (h *hub) tell(verb string, in any, users ...int) int {
	n := 0
	for c := range h.told {
		if slices.Contains(users, c.UID()) && c.Notify(verb, in) == nil {
			n++
		}
	}
	return n
}

// Tell is tell for those who do not hold the lock.
func (h *hub) Tell(verb string, in any, users ...int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tell(verb, in, users...)
}

func (h *hub) event(e eventMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tell(verbEvent, e, uidAgent) == 0 {
		h.events = append(h.events, e)
		h.events = h.events[max(0, len(h.events)-maxEvents):]
	}
}

func (h *hub) record(r recordMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tell(verbRecord, r, uidAgent) == 0 {
		h.records = append(h.records, r)
		h.records = h.records[max(0, len(h.records)-maxEvents):]
	}
}

func (h *hub) setRadios(found []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.radios = slices.Clone(found)
}

// maxStages bounds the stages: there are eight.
const maxStages = 16

// reached notes a stage; first is false when it was reached before.
func (h *hub) reached(name string, now float64) (when float64, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.stages {
		if s.Name == name {
			return s.At, false
		}
	}
	if len(h.stages) >= maxStages {
		return now, false
	}
	h.stages = append(h.stages, report.Stage{Name: name, At: now})
	return now, true
}

// checkSockets tells the service, once each, of sockets that must not be there.
func (h *hub) checkSockets(table []report.Socket) {
	p := h.policy()
	// A ringing call has its port already; how long it stays is for the service to see.
	expected := network.Expected{Resolvers: p.Resolvers, AgentPorts: p.AgentPorts, CallPorts: p.CallPorts, RTPMin: p.RTPMin, RTPMax: p.RTPMax,
		Net: uidNet, Agent: uidAgent, Call: uidCall, Media: uidMedia, InCall: true}
	for _, s := range expected.Unexpected(table) {
		detail := fmt.Sprintf("%s %s to %s %s user %d", s.Proto, s.Local, s.Remote, s.State, s.UID)
		h.mu.Lock()
		_, known := h.sockets[detail]
		news := !known && len(h.sockets) < maxEvents
		if news {
			h.sockets[detail] = struct{}{}
		}
		h.mu.Unlock()
		if news {
			h.event(eventMessage{Time: time.Now().UTC(), Role: roleInit, Name: "socket.unexpected", Detail: detail})
		}
	}
}

// status is the phone as it is now.
func (h *hub) status() (statusMessage, error) {
	sockets, err := network.Sockets("/proc/net")
	if err != nil {
		return statusMessage{}, fmt.Errorf("status: %w", err)
	}
	h.checkSockets(sockets)
	h.mu.Lock()
	defer h.mu.Unlock()
	return statusMessage{Uptime: bootClock(), Registered: h.registered, InCall: h.inCall, Sockets: sockets,
		Radios: slices.Clone(h.radios), Stages: slices.Clone(h.stages)}, nil
}
