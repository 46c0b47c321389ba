package admin

import (
	"context"
	"errors"

	"ringfence/provisioning/problem"
	"ringfence/provisioning/rollout"
	"ringfence/provisioning/wire"
)

// Rollouts is what operators may do with rollouts; rollout.Manager audits
// each under the actor's name.
type Rollouts interface {
	Start(ctx context.Context, actor string, plan rollout.Plan) (*rollout.View, error)
	Approve(ctx context.Context, actor, id string) (*rollout.View, error)
	Halt(ctx context.Context, actor, id, reason string) (*rollout.View, error)
	Resume(ctx context.Context, actor, id string) (*rollout.View, error)
	Abort(ctx context.Context, actor, id string) (*rollout.View, error)
	Show(ctx context.Context, id string) (*rollout.View, error)
	List(ctx context.Context) ([]*rollout.Rollout, error)
}

var _ Rollouts = (*rollout.Manager)(nil)

func (h *Handler) handleRollouts() {
	all := h.cfg.Rollouts
	h.handle("GET /v1/rollouts", func(r *request) (any, error) { return all.List(r.Context()) })
	h.handle("POST /v1/rollouts", h.startRollout)
	h.handle("GET /v1/rollouts/{id}", func(r *request) (any, error) {
		return operated(all.Show(r.Context(), r.PathValue("id")))
	})
	h.handle("POST /v1/rollouts/{id}/approve", func(r *request) (any, error) {
		return operated(all.Approve(r.Context(), r.actor, r.PathValue("id")))
	})
	h.handle("POST /v1/rollouts/{id}/halt", h.haltRollout)
	h.handle("POST /v1/rollouts/{id}/resume", func(r *request) (any, error) {
		return operated(all.Resume(r.Context(), r.actor, r.PathValue("id")))
	})
	h.handle("POST /v1/rollouts/{id}/abort", func(r *request) (any, error) {
		return operated(all.Abort(r.Context(), r.actor, r.PathValue("id")))
	})
}

func (h *Handler) startRollout(r *request) (any, error) {
	plan := new(rollout.Plan)
	if err := wire.DecodeStrict(r.body, 1<<20, plan); err != nil {
		return nil, problem.Bad(err.Error())
	}
	return operated(h.cfg.Rollouts.Start(r.Context(), r.actor, *plan))
}

// Halt is the body of POST /v1/rollouts/{id}/halt.
type Halt struct {
	Reason string `json:"reason"` // at most 512 bytes
}

func (h *Handler) haltRollout(r *request) (any, error) {
	body := new(Halt)
	if err := wire.DecodeStrict(r.body, 4<<10, body); err != nil {
		return nil, problem.Bad(err.Error())
	}
	if len(body.Reason) > 512 {
		return nil, problem.Bad("reason of more than 512 bytes")
	}
	return operated(h.cfg.Rollouts.Halt(r.Context(), r.actor, r.PathValue("id"), body.Reason))
}

func operated(v *rollout.View, err error) (any, error) {
	if errors.Is(err, rollout.ErrUnknown) {
		return nil, problem.NotFound(err.Error())
	}
	if err != nil {
		return nil, conflict(err)
	}
	return v, nil
}
