// Package gatekeeper applies verdicts: it appraises a device's evidence
// against the releases its model may run, and writes the outcome to the fleet
// and to the audit list. It speaks no protocol.
//
// Specification: RFC 9334 (the relying party's part).
package gatekeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ringfence/provisioning/appraise"
	"ringfence/provisioning/audit"
	"ringfence/provisioning/fleet"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
)

// Config is what a Gatekeeper needs; every field but Refused is required.
type Config struct {
	Fleet *fleet.Fleet
	Trust *trust.Trust
	Audit audit.Log
	// Refused is told of every refusal, after it was recorded; nil for nobody.
	Refused func(context.Context, device.ID, string)
}

// Gatekeeper is safe for concurrent use.
type Gatekeeper struct {
	cfg       Config
	strangers audit.Limiter
}

// RefusedError says why evidence was refused.
type RefusedError struct{ Causes []string }

// Error implements error.
func (e *RefusedError) Error() string { return strings.Join(e.Causes, "; ") }

// New checks cfg.
func New(cfg Config) (*Gatekeeper, error) {
	if cfg.Fleet == nil || cfg.Trust == nil || cfg.Audit == nil {
		return nil, errors.New("gatekeeper without fleet, trust or audit list")
	}
	return &Gatekeeper{cfg: cfg}, nil
}

// Admit appraises ev of d for the purpose named in the audit list. The error
// is a *RefusedError when the evidence is bad; the device is then marked.
func (g *Gatekeeper) Admit(ctx context.Context, d *fleet.Device, ev *evidence.Evidence, c appraise.Challenge, purpose string) (*appraise.Verdict, error) {
	refs, err := g.cfg.Trust.References(ctx, d.Manufacturer, d.Model)
	if err != nil {
		return nil, err
	}
	v := appraise.Appraise(ev, appraise.Expected{AK: d.AK, References: refs}, c)
	if v.Trusted() {
		return v, nil
	}
	return nil, g.Refuse(ctx, d.ID, purpose, v.Causes)
}

// maxCauses bounds what one refusal may store.
const maxCauses = 32

// Refuse records a refusal and returns it as a *RefusedError.
func (g *Gatekeeper) Refuse(ctx context.Context, id device.ID, purpose string, causes []string) error {
	refused := &RefusedError{}
	for _, c := range causes[:min(len(causes), maxCauses)] { // some quote what the phone wrote
		refused.Causes = append(refused.Causes, audit.Line(c, 512))
	}
	if err := g.cfg.Fleet.Refuse(ctx, id, refused.Error()); err != nil {
		return err
	}
	if g.cfg.Refused != nil {
		g.cfg.Refused(ctx, id, refused.Error())
	}
	if err := g.Note(ctx, "device:"+string(id), purpose+".refused", string(id), refused.Error()); err != nil {
		return err
	}
	return refused
}

// Note appends to the audit list.
func (g *Gatekeeper) Note(ctx context.Context, actor, name, subject, detail string) error {
	err := g.cfg.Audit.Append(ctx, audit.Event{Time: time.Now(), Actor: actor, Name: name, Subject: subject, Detail: detail})
	if err != nil {
		return fmt.Errorf("audit %s: %w", name, err)
	}
	return nil
}

// NoteStranger appends what a peer without proof caused; peer is its
// "host:port". Of many such events within a minute the later ones are dropped.
func (g *Gatekeeper) NoteStranger(ctx context.Context, peer, name, subject, detail string) error {
	ok, last := g.strangers.Admit(peer, time.Now())
	if !ok {
		return nil
	}
	if last {
		detail = detail[:min(len(detail), 1024)] + audit.LastNote
	}
	return g.Note(ctx, peer, name, subject, detail)
}

// Fleet returns the fleet it writes to.
func (g *Gatekeeper) Fleet() *fleet.Fleet { return g.cfg.Fleet }
