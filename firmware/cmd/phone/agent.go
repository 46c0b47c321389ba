package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"ringfence/boards"
	"ringfence/boards/all"
	"ringfence/firmware/agent"
	"ringfence/firmware/attest"
	"ringfence/firmware/intercom"
	"ringfence/firmware/measure"
	"ringfence/firmware/update"
	"ringfence/hal/tpm"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

// agentRole is the wiring of firmware/agent.
type agentRole struct {
	log     *slog.Logger
	hub     *intercom.Conn
	agent   *agent.Agent
	updater *update.Updater // nil: the phone takes no updates
	reports chan report.Report

	mu     sync.Mutex // guards what follows
	lease  chan struct{}
	hint   string
	period time.Duration
}

func runAgent(ctx context.Context, _ []string) error {
	l, err := intercom.Inherited(listenFD, roleAgent)
	if err != nil {
		return err
	}
	r := &agentRole{log: newLog(os.Stderr, roleAgent), reports: make(chan report.Report, 128), lease: make(chan struct{}), period: 30 * time.Second}
	if r.hub, err = intercom.Dial(ctx, socket(roleInit), uidInit, r.notice); err != nil {
		return err
	}
	board, words, err := thisBoard()
	if err != nil {
		return err
	}
	if err := r.build(ctx, board, words); err != nil {
		return err
	}
	if err := r.hub.Call(ctx, verbSubscribe, nil, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { r.status(ctx) })
	if r.updater != nil {
		work.Go(func() {
			if err := r.updater.Run(ctx); ctx.Err() == nil {
				r.log.Error("updates ended", "error", err) // init ends a trial by itself
			}
		})
	}
	work.Go(func() {
		if err := intercom.Serve(ctx, l, []int{uidCall}, r.handle, nil); err != nil {
			r.log.Error("intercom ended", "error", err)
		}
	})
	return r.agent.Run(ctx)
}

// thisBoard chooses the board again, and returns the measured command line's words.
func thisBoard() (boards.Board, map[string]string, error) {
	cmdline, err := os.ReadFile(cmdlinePath)
	if err != nil {
		return boards.Board{}, nil, err
	}
	compatible, err := os.ReadFile("/proc/device-tree/compatible")
	if err != nil {
		return boards.Board{}, nil, err
	}
	words := map[string]string{}
	for w := range strings.FieldsSeq(string(cmdline)) {
		key, value, _ := strings.Cut(w, "=")
		words[key] = value
	}
	b, err := all.Choose(string(cmdline), compatible)
	return b, words, err
}

func (r *agentRole) build(ctx context.Context, board boards.Board, words map[string]string) error {
	dev, err := board.OpenTPM()
	if err != nil {
		return err
	}
	cfg := agent.Config{TPM: dev, Floor: dev.Floor(tpm.ConfigFloor), StateDir: stateDir, Model: device.Model(board.Name),
		Release: words["ringfence.release"], Hint: r.waitHint, OnConfig: r.onConfig, Log: r.log, OnEvent: r.onEvent, Reports: r.reports,
		Logs: attest.Logs{Phone: r.phoneLog}, Serial: board.OpenFactoryLine, ReleaseFloor: dev.Floor(tpm.ReleaseFloor)}
	if r.updater, err = r.newUpdater(ctx, board, dev, cfg.Release); err != nil {
		r.log.Error("no updates", "error", err) // the phone serves all the same
	}
	if r.updater != nil {
		cfg.OnUpdate, cfg.Progress = r.updater.Offer, r.updater.Progress()
	}
	r.agent, err = agent.New(cfg)
	return err
}

func (r *agentRole) phoneLog() []evidence.Entry {
	entries, err := measure.ReadLog(phoneLog)
	if err != nil {
		r.log.Error("phone log", "error", err) // the evidence then explains nothing and is refused
	}
	return entries
}

// waitHint returns where the network says the provisioning service is.
func (r *agentRole) waitHint(ctx context.Context) (string, error) {
	select {
	case <-r.lease:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hint == "" {
		return "", errors.New("the network names no provisioning service (DHCP option 143)")
	}
	return r.hint, nil
}

// notice is what init tells.
func (r *agentRole) notice(_ context.Context, q *intercom.Request) (any, error) {
	switch q.Verb {
	case verbLease:
		return decode(q, func(in leaseMessage) error { r.leased(in); return nil })
	case verbEvent:
		return decode(q, func(in eventMessage) error { r.report(report.Report{Events: []report.Event{in}}); return nil })
	case verbLine:
		return decode(q, func(in lineMessage) error { r.line(in); return nil })
	case verbRecord:
		return decode(q, func(in recordMessage) error { r.report(report.Report{Calls: []report.Call{in}}); return nil })
	}
	return nil, nil
}

func (r *agentRole) leased(l leaseMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hint = ""
	if len(l.Hints) > 0 {
		r.hint = l.Hints[0]
	}
	select {
	case <-r.lease:
	default:
		close(r.lease)
	}
}

// report queues a report; when the service is away for long the newest is dropped.
func (r *agentRole) report(rep report.Report) {
	select {
	case r.reports <- rep:
	default:
		r.log.Warn("report dropped")
	}
}

// onConfig publishes a verified configuration through init.
func (r *agentRole) onConfig(c *lock.Config) error {
	r.mu.Lock()
	r.period = time.Duration(c.Management.ReportSeconds) * time.Second
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return r.hub.Call(ctx, verbConfig, configMessage{c}, nil)
}

func (r *agentRole) onEvent(e agent.Event) {
	r.health(e)
	stage := map[agent.EventName]string{agent.EventEnrolled: "enrolled", agent.EventAttested: "attested", agent.EventConfigured: "configured"}[e.Name]
	if stage != "" {
		if err := r.hub.Notify(verbStage, stageMessage{stage}); err != nil {
			r.log.Error("stage not told", "error", err)
		}
	}
	switch e.Name {
	case agent.EventRefused:
		if err := r.hub.Notify(verbUnproven, unprovenMessage{shorten(clean(e.Detail))}); err != nil {
			r.log.Error("refusal not told", "error", err)
		}
		fallthrough
	case agent.EventConfigRefused, agent.EventRenewed, agent.EventOwnerPinned:
		detail := shorten(clean(e.Detail))
		r.report(report.Report{Events: []report.Event{{Time: time.Now().UTC(), Role: roleAgent, Name: string(e.Name), Detail: detail}}})
	}
}

// shorten cuts text to what a report may carry, between characters.
func shorten(s string) string { return strings.ToValidUTF8(s[:min(len(s), 512)], "") }

// status reports what the phone is doing, every report interval.
func (r *agentRole) status(ctx context.Context) {
	for {
		r.mu.Lock()
		period := r.period
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(period):
		}
		var s statusMessage
		if err := r.hub.Call(ctx, verbStatus, nil, &s); err != nil {
			r.log.Warn("no status", "error", err)
			continue
		}
		r.report(report.Report{Status: &s})
	}
}

// handle answers the call role: its certificate, and signatures by the SIP key.
func (r *agentRole) handle(_ context.Context, q *intercom.Request) (any, error) {
	switch q.Verb {
	case verbSIPChain:
		chain, err := r.agent.SIPChain()
		return chainMessage{chain}, err
	case verbSIPSign:
		var in digestMessage
		if err := q.Decode(&in); err != nil {
			return nil, err
		}
		sig, err := r.agent.SignSIP(in.Digest)
		return signatureMessage{sig}, err
	}
	return nil, fmt.Errorf("unknown verb %q", q.Verb)
}
