package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/ca"
	"ringfence/provisioning/est"
	"ringfence/provisioning/fleet"
	"ringfence/provisioning/fleet/sqlstore"
	"ringfence/provisioning/gatekeeper"
	"ringfence/provisioning/lockcfg"
	"ringfence/provisioning/push"
	"ringfence/provisioning/rollout"
	"ringfence/provisioning/server"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
)

// serve wires the service and runs it until ctx ends.
func serve(ctx context.Context, cfg *config, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	store, err := sqlstore.Open(ctx, cfg.file(cfg.Database))
	if err != nil {
		return err
	}
	calls, err := newRegistrar(cfg, log)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	rollouts, err := newRollouts(ctx, cfg, store, log)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	phones, streams, operators, err := wireUp(cfg, store, calls, rollouts, log)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	front, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for phones: %w", err), store.Close())
	}
	back, err := net.Listen("tcp", cfg.AdminListen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for operators: %w", err), front.Close(), store.Close())
	}
	log.Info("serving", "phones", front.Addr(), "operators", back.Addr(), "name", cfg.Name)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		running sync.WaitGroup
		errs    [5]error
	)
	for i, part := range []func() error{
		func() error { return phones.Serve(ctx, front) },
		func() error { return streams.Run(ctx) },
		func() error { return calls.Run(ctx) },
		func() error { return rollouts.Run(ctx, streams) },
		func() error { return serveAdmin(ctx, operators, back) },
	} {
		running.Go(func() {
			defer cancel() // one part's end is the end of all
			errs[i] = part()
		})
	}
	running.Wait()
	log.Info("stopped")
	return errors.Join(errors.Join(errs[:]...), store.Close())
}

func serveAdmin(ctx context.Context, web *http.Server, listener net.Listener) error {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = web.Shutdown(end) // whoever is slow is cut off with the process
	})
	err := web.ServeTLS(listener, "", "")
	if stop() {
		return err
	}
	<-done
	return nil
}

// wireUp makes every part from what is in the site's directory.
func wireUp(cfg *config, store *sqlstore.Store, calls push.Registrar, rollouts *rollout.Manager, log *slog.Logger) (*server.Server, *push.Server, *http.Server, error) {
	fail := func(err error) (*server.Server, *push.Server, *http.Server, error) { return nil, nil, nil, err }
	keys, err := loadKeys(cfg)
	if err != nil {
		return fail(err)
	}
	devices, err := fleet.New(store)
	if err != nil {
		return fail(err)
	}
	makers, err := trust.New(store)
	if err != nil {
		return fail(err)
	}
	maker, err := lockcfg.New(lockcfg.Config{Store: store, Signer: keys.signer.PrivateKey.(crypto.Signer), Certificate: keys.signer.Leaf,
		CAs: [][]byte{keys.owner.Certificate().Raw}, Defaults: lockcfg.Defaults(cfg.SIPName, cfg.Domain)})
	if err != nil {
		return fail(err)
	}
	var streams *push.Server // made after the gate that tells it of refusals
	gate, err := gatekeeper.New(gatekeeper.Config{Fleet: devices, Trust: makers, Audit: store,
		Refused: func(ctx context.Context, id device.ID, reason string) { streams.Refused(ctx, id, reason) }})
	if err != nil {
		return fail(err)
	}
	streams, err = push.New(push.Config{Gate: gate, Maker: maker, Registrar: calls, Reports: store, Updates: rollouts,
		Management: keys.management.Pool(), Log: log, Reattest: cfg.reattest})
	if err != nil {
		return fail(err)
	}
	enrolment, err := est.New(est.Config{Gate: gate, Trust: makers, Management: keys.management.Pool(), Log: log, Now: time.Now,
		Issuer: &issuer{keys.management, keys.sip, cfg.Domain, cfg.lifetime},
		CAs:    []*x509.Certificate{keys.owner.Certificate(), keys.management.Certificate(), keys.sip.Certificate()}})
	if err != nil {
		return fail(err)
	}
	web, err := withReleases(cfg, keys.management.Pool(), enrolment)
	if err != nil {
		return fail(err)
	}
	phones, err := server.New(server.Config{Certificate: *keys.server, HTTP: web, ConnContext: est.ConnContext,
		StreamProtocol: wire.ALPN, Streams: streams.Serve, MaxConns: cfg.MaxConnections, Log: log})
	if err != nil {
		return fail(err)
	}
	api, err := admin.New(admin.Config{Fleet: devices, Trust: makers, Maker: maker, History: store, Streams: streams,
		Rollouts: rollouts, Clients: keys.admin.Pool(), Log: log})
	if err != nil {
		return fail(err)
	}
	return phones, streams, adminServer(keys, api, log), nil
}

func adminServer(keys *keys, api http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: api, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*keys.server},
			// Asked for here, verified by the API: its refusal names the cause.
			ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true}}
}

type keys struct {
	owner, management, sip, admin *ca.CA
	server, signer                *tls.Certificate
}

func loadKeys(cfg *config) (k *keys, err error) {
	k = new(keys)
	for name, target := range map[string]**ca.CA{"owner": &k.owner, "management": &k.management, "sip": &k.sip, "admin": &k.admin} {
		if *target, err = cfg.authority(name); err != nil {
			return nil, err
		}
	}
	for name, target := range map[string]**tls.Certificate{"server": &k.server, "config-signer": &k.signer} {
		if *target, err = cfg.pair(name); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// issuer implements est.Issuer with the two authorities for phones.
type issuer struct {
	management, sip *ca.CA
	domain          string
	lifetime        time.Duration
}

func (i *issuer) Issue(label enroll.Label, id device.ID, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	switch label {
	case enroll.Management:
		return i.management.Management(id, pub, now, i.lifetime)
	case enroll.SIP:
		return i.sip.SIP(id, i.domain, pub, now, i.lifetime)
	}
	return nil, fmt.Errorf("no authority for label %q", label)
}
