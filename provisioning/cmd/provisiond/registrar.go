package main

import (
	"context"
	"errors"
	"log/slog"

	"ringfence/provisioning/push"
	"ringfence/provisioning/wire/device"
)

// newRegistrar connects the call server that the configuration names. The
// second result is the connector's own loop; it runs until its context ends.
func newRegistrar(cfg *config, log *slog.Logger) (push.Registrar, func(context.Context) error, error) {
	if cfg.CallServerAdmin != "" {
		return nil, nil, errors.New("call_server_admin: this build has no call server connector")
	}
	return detached{log}, func(ctx context.Context) error { <-ctx.Done(); return nil }, nil
}

// detached is a site without a call server: decisions are logged only.
type detached struct{ log *slog.Logger }

func (d detached) Allow(_ context.Context, id device.ID, user string) error {
	d.log.Info("registration allowed, no call server to tell", "device", id, "user", user)
	return nil
}

func (d detached) Revoke(_ context.Context, id device.ID) error {
	d.log.Info("registration revoked, no call server to tell", "device", id)
	return nil
}
