package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"

	"ringfence/provisioning/push"
	"ringfence/provisioning/registrar"
	"ringfence/provisioning/wire/device"
)

// callServer is what serve needs of the call server: its live table, and the
// loop that keeps it.
type callServer interface {
	push.Registrar
	Run(ctx context.Context) error
}

// newRegistrar connects the call server that the configuration names.
func newRegistrar(cfg *config, log *slog.Logger) (callServer, error) {
	if cfg.CallServerAdmin == "" {
		return detached{log}, nil
	}
	admin, err := netip.ParseAddrPort(cfg.CallServerAdmin)
	if err != nil {
		return nil, fmt.Errorf("call_server_admin: %w", err)
	}
	return registrar.New(registrar.Config{Admin: admin, Domain: cfg.Domain, Log: log})
}

// callServerSite describes a Kamailio that only this site's phones can use;
// nil when the flags ask for none.
func callServerSite(cfg *config) (*registrar.Site, error) {
	if cfg.CallServerListen == "" {
		return nil, nil
	}
	listen, err := netip.ParseAddrPort(cfg.CallServerListen)
	if err != nil {
		return nil, fmt.Errorf("--call-server-listen, such as 192.0.2.5:5061: %w", err)
	}
	admin, err := netip.ParseAddrPort(cfg.CallServerAdmin)
	if err != nil {
		return nil, fmt.Errorf("--call-server-admin, such as 127.0.0.1:18080, is needed with --call-server-listen: %w", err)
	}
	dir, err := filepath.Abs(cfg.dir)
	if err != nil {
		return nil, err
	}
	return &registrar.Site{Listen: listen, Admin: admin, Domain: cfg.Domain,
		Certificate: filepath.Join(dir, "sip-server.pem"), Key: filepath.Join(dir, "sip-server.key"), SIPCA: filepath.Join(dir, "sip-ca.pem")}, nil
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

func (d detached) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
