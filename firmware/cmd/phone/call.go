package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"ringfence/firmware/intercom"
	"ringfence/firmware/media"
	"ringfence/firmware/media/secure"
	"ringfence/firmware/sdp"
	"ringfence/firmware/sip"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

// callRole is the wiring of firmware/sip: one Phone per configuration.
type callRole struct {
	log     *slog.Logger
	hub     *intercom.Conn
	configs chan *lock.Config
	proofs  chan proofMessage

	mu    sync.Mutex // guards what follows
	phone *sip.Phone
	user  string // address-of-record, for the log
}

func runCall(ctx context.Context, _ []string) error {
	sip.QuietLibrary()
	l, err := intercom.Inherited(listenFD, roleCall)
	if err != nil {
		return err
	}
	r := &callRole{log: newLog(os.Stderr, roleCall), configs: make(chan *lock.Config, 1), proofs: make(chan proofMessage, 1)}
	if r.hub, err = intercom.Dial(ctx, socket(roleInit), uidInit, r.notice); err != nil {
		return err
	}
	if err := r.hub.Call(ctx, verbSubscribe, nil, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() {
		if err := intercom.Serve(ctx, l, append([]int{uidUI}, labUsers()...), r.handle, nil); err != nil {
			r.log.Error("intercom ended", "error", err)
		}
	})
	return r.serve(ctx)
}

// serve runs a Phone for the newest configuration, and none while the phone is
// refused.
func (r *callRole) serve(ctx context.Context) error {
	var plan linePlan
	stop := func() {}
	defer func() { stop() }()
	for {
		todo := keepLine
		select {
		case <-ctx.Done():
			return nil
		case <-r.hub.Done():
			return errors.New("init closed the connection")
		case c := <-r.configs:
			todo = plan.configured(c)
		case p := <-r.proofs:
			todo = plan.judged(p.Proven)
		}
		if todo == keepLine {
			continue
		}
		stop()
		stop = func() {}
		if todo == stopLine {
			r.stopped()
			continue
		}
		var err error
		if stop, err = r.run(ctx, plan.config); err != nil {
			return err
		}
	}
}

// stopped says that there is no line: the phone has left the call server.
func (r *callRole) stopped() {
	r.mu.Lock()
	r.phone = nil
	r.mu.Unlock()
	const reason = "the provisioning service refused this phone"
	r.log.Warn("line stopped", "reason", reason)
	if err := r.hub.Notify(verbLine, lineMessage{Kind: string(sip.Unregistered), Reason: reason}); err != nil {
		r.log.Error("event not told", "error", err)
	}
}

// run starts a Phone; the function it returns stops it and waits.
func (r *callRole) run(ctx context.Context, c *lock.Config) (func(), error) {
	cas := x509.NewCertPool()
	for _, der := range c.CallServer.CAs {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("call server CA: %w", err)
		}
		cas.AddCert(cert)
	}
	line := c.Lines[0]
	p, err := sip.New(sip.Config{User: line.User, Display: line.Display, Domain: c.CallServer.Domain, Server: c.CallServer.Address,
		ServerName: c.CallServer.ServerName, CAs: cas, Certificate: r.certificate, Policy: sdp.Policy{Codecs: c.Media.Codecs, Suites: c.Media.Suites},
		Media: mediaClient{r}, Emergency: c.Policy.EmergencyNumbers, Log: r.log, Events: r.event})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.phone, r.user = p, "sip:"+line.User+"@"+c.CallServer.Domain
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			r.log.Error("line ended", "error", err)
		}
	}()
	return func() { cancel(); <-done }, nil
}

func (r *callRole) current() *sip.Phone {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.phone
}

// event tells init what the line does.
func (r *callRole) event(e sip.Event) {
	if e.Kind == sip.Registered {
		r.log.Info("registered", "aor", r.user, "at", at(bootClock()))
	} else {
		r.log.Info("line", "kind", e.Kind, "peer", e.Peer, "reason", e.Reason)
	}
	err := r.hub.Notify(verbLine, lineMessage{Kind: string(e.Kind), Peer: e.Peer, Reason: e.Reason, Emergency: e.Emergency, Codec: e.Codec, Suite: e.Suite})
	if e.Call != nil {
		r.log.Info("call", "peer", e.Call.Peer, "reason", e.Call.Reason, "codec", e.Call.Codec, "suite", e.Call.Suite, "sent", e.Call.Sent,
			"received", e.Call.Received, "lost", e.Call.Lost, "auth_fail", e.Call.AuthFail, "concealed", e.Call.Concealed)
		err = errors.Join(err, r.hub.Notify(verbRecord, recordMessage(*e.Call)))
	}
	if err != nil {
		r.log.Error("event not told", "error", err)
	}
}

// notice is what init tells.
func (r *callRole) notice(_ context.Context, q *intercom.Request) (any, error) {
	switch q.Verb {
	case verbConfig:
		return decode(q, func(in configMessage) error {
			if in.Config == nil {
				return errors.New("no configuration")
			}
			if err := in.Config.Validate(); err != nil {
				return err
			}
			newest(r.configs, in.Config)
			return nil
		})
	case verbProof:
		return decode(q, func(in proofMessage) error { newest(r.proofs, in); return nil })
	case verbMediaLost:
		if p := r.current(); p != nil {
			_ = p.MediaLost() // no call is no fault here
		}
	}
	return nil, nil
}

// newest puts v in place of what waits in c, which holds one.
func newest[T any](c chan T, v T) {
	select {
	case <-c:
	default:
	}
	c <- v
}

// handle answers the ui role.
func (r *callRole) handle(ctx context.Context, q *intercom.Request) (any, error) {
	p := r.current()
	if p == nil {
		return nil, sip.ErrNotRegistered
	}
	switch q.Verb {
	case verbDial:
		return decode(q, func(in dialMessage) error { return p.Dial(ctx, in.Number) })
	case verbAnswer:
		return nil, p.Answer()
	case verbHangup:
		return nil, p.Hangup()
	}
	return nil, fmt.Errorf("unknown verb %q", q.Verb)
}

// certificate asks the agent; the private key stays in the TPM.
func (r *callRole) certificate() (tls.Certificate, error) {
	var out chainMessage
	if err := askAgent(verbSIPChain, nil, &out); err != nil {
		return tls.Certificate{}, err
	}
	if len(out.Chain) == 0 {
		return tls.Certificate{}, errors.New("the agent has no SIP certificate")
	}
	leaf, err := x509.ParseCertificate(out.Chain[0])
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("SIP certificate: %w", err)
	}
	return tls.Certificate{Certificate: out.Chain, Leaf: leaf, PrivateKey: remoteSigner{leaf.PublicKey},
		SupportedSignatureAlgorithms: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}, nil
}

func askAgent(verb string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := intercom.Dial(ctx, socket(roleAgent), uidInit, nil) // init made the socket
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, verb, in, out)
}

// remoteSigner has the agent sign with the SIP key.
type remoteSigner struct{ public crypto.PublicKey }

func (s remoteSigner) Public() crypto.PublicKey { return s.public }

func (s remoteSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, fmt.Errorf("sign with %v: only SHA-256", opts.HashFunc())
	}
	var out signatureMessage
	err := askAgent(verbSIPSign, digestMessage{digest}, &out)
	return out.Signature, err
}

// mediaClient is sip.Media by way of init and its gate.
type mediaClient struct{ r *callRole }

var _ sip.Media = mediaClient{}

func (m mediaClient) Reserve(ctx context.Context) (uint16, error) {
	var out portMessage
	err := m.r.hub.Call(ctx, verbReserve, nil, &out)
	return out.Port, err
}

func (m mediaClient) Start(ctx context.Context, s sdp.Stream) error {
	var ssrc [4]byte
	_, _ = rand.Read(ssrc[:]) // never fails
	return m.r.hub.Call(ctx, verbStart, media.Params{Codec: media.Codec(s.Codec), PayloadType: s.PayloadType, Remote: s.Remote,
		Suite: secure.Suite(s.Suite), LocalKey: secure.Key(s.LocalKey), RemoteKey: secure.Key(s.RemoteKey),
		SSRC: binary.BigEndian.Uint32(ssrc[:]), Hold: s.Direction != sdp.SendRecv}, nil)
}

func (m mediaClient) Stop() report.Call {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var s media.Stats
	if err := m.r.hub.Call(ctx, verbStop, nil, &s); err != nil {
		m.r.log.Warn("no numbers of the call", "error", err)
	}
	return report.Call{Sent: s.Sent, Received: s.Received, Lost: s.Lost, AuthFail: s.AuthFail, Concealed: s.Concealed,
		JitterMS: s.JitterMS, RoundTrip: s.RoundTrip, Xruns: s.Xruns}
}
