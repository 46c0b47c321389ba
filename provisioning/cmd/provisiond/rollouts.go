package main

import (
	"context"
	"log/slog"
	"time"

	"ringfence/provisioning/fleet"
	"ringfence/provisioning/fleet/sqlstore"
	"ringfence/provisioning/rollout"
	"ringfence/provisioning/trust"
)

// newRollouts loads the rollouts that were not over when the service stopped.
func newRollouts(ctx context.Context, cfg *config, store *sqlstore.Store, log *slog.Logger) (*rollout.Manager, error) {
	devices, err := fleet.New(store)
	if err != nil {
		return nil, err
	}
	makers, err := trust.New(store)
	if err != nil {
		return nil, err
	}
	return rollout.New(ctx, rollout.Config{Store: store, Fleet: devices, References: makers, Audit: store, Log: log, Now: time.Now,
		Policy: rollout.Policy{CanaryAbove: cfg.CanaryAbove, CanaryAtMost: cfg.CanaryAtMost, ApprovalAbove: cfg.ApprovalAbove}})
}
