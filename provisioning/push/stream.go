package push

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"ringfence/provisioning/appraise"
	"ringfence/provisioning/audit"
	"ringfence/provisioning/fleet"
	"ringfence/provisioning/lockcfg"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

const (
	helloTimeout = 10 * time.Second
	writeTimeout = 10 * time.Second
	pingInterval = 15 * time.Second
	readTimeout  = 60 * time.Second // several pings
	maxPerMinute = 240              // frames from one phone
)

// stream is one phone's connection. Only its run loop writes to conn.
type stream struct {
	server  *Server
	conn    *tls.Conn
	device  *fleet.Device
	spki    []byte
	binder  []byte // TLS exporter
	hello   wire.Hello
	nonce   []byte // of the open challenge, nil when none
	proved  bool
	ready   atomic.Bool // proved, for others to read
	release string      // last proved
	hurry   bool        // a fresh proof is wanted before the interval is over
	sent    uint64      // newest version sent on this stream
	config  chan struct{}
	update  chan *wire.Update
	refused chan string
	cancel  context.CancelFunc
	frames  int
	minute  time.Time
}

// accept authenticates the peer and reads its hello.
func (s *Server) accept(ctx context.Context, conn *tls.Conn) (*stream, error) {
	state := conn.ConnectionState()
	if state.Version != tls.VersionTLS13 || len(state.PeerCertificates) == 0 {
		return nil, errors.New("no client certificate, or not TLS 1.3")
	}
	cert := state.PeerCertificates[0]
	if _, err := cert.Verify(x509.VerifyOptions{Roots: s.cfg.Management, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return nil, fmt.Errorf("not a management certificate: %w", err)
	}
	d, err := s.cfg.Gate.Fleet().ByCertificate(ctx, cert)
	if err != nil {
		return nil, err
	}
	exporter, err := state.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	if err != nil {
		return nil, fmt.Errorf("TLS exporter: %w", err)
	}
	st := &stream{server: s, conn: conn, device: d, spki: cert.RawSubjectPublicKeyInfo, binder: exporter,
		config: make(chan struct{}, 1), update: make(chan *wire.Update, 1), refused: make(chan string, 1)}
	if err := conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, err
	}
	m, err := wire.ReadFrame(conn)
	if err != nil {
		return nil, fmt.Errorf("%s: hello: %w", d.ID, err)
	}
	if m.Hello == nil || m.Hello.Protocol != wire.Protocol || m.Hello.Schema < lock.Schema || len(m.Hello.Release) > 32 || len(m.Hello.BootID) > 64 {
		return nil, fmt.Errorf("%s: no hello of protocol %d and schema %d", d.ID, wire.Protocol, lock.Schema)
	}
	st.hello = *m.Hello
	return st, nil
}

// turnAway says why there is no stream. It waits for nobody: who does not read
// does not learn it.
func turnAway(conn *tls.Conn, err error) {
	text := err.Error()
	frame, err := wire.AppendFrame(nil, &wire.Message{Bye: &wire.Bye{Reason: text[:min(len(text), 1024)]}})
	if err != nil || conn.SetWriteDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	_, _ = conn.Write(frame) // the connection ends either way
}

// poke asks the run loop to look at the configuration; it never blocks.
func (st *stream) poke() {
	select {
	case st.config <- struct{}{}:
	default: // one is waiting: it will see the newest
	}
}

// refuse ends the stream with a reason; it never blocks.
func (st *stream) refuse(reason string) {
	select {
	case st.refused <- reason:
	default: // it is ending already
	}
}

// run is the life of the stream after hello.
func (st *stream) run(ctx context.Context) error {
	in, failed, done := make(chan *wire.Message), make(chan error, 1), make(chan struct{})
	finished := make(chan struct{})
	go func() { defer close(finished); st.read(in, failed, done) }()
	defer func() { close(done); _ = st.conn.Close(); <-finished }() // the reader ends with its connection
	if err := st.challenge(); err != nil {
		return err
	}
	reattest, ping := time.NewTicker(st.server.cfg.Reattest), time.NewTicker(pingInterval)
	overdue := time.NewTimer(st.server.cfg.ProofTimeout)
	defer reattest.Stop()
	defer ping.Stop()
	defer overdue.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), st.bye("the service ends this stream"))
		case reason := <-st.refused:
			return errors.Join(fmt.Errorf("%w: %s", errRefused, reason), st.bye(reason))
		case err = <-failed:
		case m := <-in:
			if m.Evidence != nil {
				overdue.Stop()
			}
			if err = st.receive(ctx, m); err == nil && st.hurry && st.nonce == nil {
				st.hurry = false
				overdue.Reset(st.server.cfg.ProofTimeout)
				err = st.challenge()
			}
		case <-reattest.C:
			if st.nonce == nil {
				overdue.Reset(st.server.cfg.ProofTimeout)
				err = st.challenge()
			}
		case <-overdue.C:
			err = st.server.cfg.Gate.Refuse(ctx, st.device.ID, "attest", []string{"no evidence within " + st.server.cfg.ProofTimeout.String()})
		case <-ping.C:
			err = st.write(&wire.Message{Ping: &wire.Ping{}})
		case <-st.config:
			err = st.configure(ctx)
		case u := <-st.update:
			err = st.write(&wire.Message{Update: u})
		}
		if err != nil {
			return errors.Join(err, st.bye(err.Error()))
		}
	}
}

func (st *stream) read(in chan<- *wire.Message, failed chan<- error, done <-chan struct{}) {
	for {
		err := st.conn.SetReadDeadline(time.Now().Add(readTimeout))
		var m *wire.Message
		if err == nil {
			m, err = wire.ReadFrame(st.conn)
		}
		if err != nil {
			failed <- fmt.Errorf("read from %s: %w", st.device.ID, err)
			return
		}
		select {
		case in <- m:
		case <-done:
			return
		}
	}
}

func (st *stream) write(m *wire.Message) error {
	frame, err := wire.AppendFrame(nil, m)
	if err != nil {
		return err
	}
	if err := st.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err = st.conn.Write(frame)
	return err
}

func (st *stream) bye(reason string) error {
	if len(reason) > 1024 {
		reason = reason[:1024]
	}
	return st.write(&wire.Message{Bye: &wire.Bye{Reason: reason}})
}

func (st *stream) challenge() error {
	nonce := make([]byte, enroll.NonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	st.nonce = nonce
	return st.write(&wire.Message{Challenge: &wire.Challenge{Nonce: nonce}})
}

func (st *stream) receive(ctx context.Context, m *wire.Message) error {
	now := time.Now()
	if now.Sub(st.minute) > time.Minute {
		st.minute, st.frames = now, 0
	}
	if st.frames++; st.frames > maxPerMinute {
		return fmt.Errorf("more than %d frames a minute", maxPerMinute)
	}
	switch {
	case m.Evidence != nil:
		return st.prove(ctx, m.Evidence, now)
	case m.Ping != nil:
		if m.Ping.Answer {
			return nil
		}
		return st.write(&wire.Message{Ping: &wire.Ping{Answer: true}})
	case !st.proved && (m.Result != nil || m.Report != nil || m.Progress != nil):
		return nil // nothing is believed before the first proof
	case m.Result != nil:
		return st.result(ctx, m.Result, now)
	case m.Report != nil:
		return st.report(ctx, m.Report, now)
	case m.Progress != nil:
		return st.progress(ctx, m.Progress, now)
	}
	return errors.New("a message that is not expected now")
}

// prove judges the answer to the open challenge.
func (st *stream) prove(ctx context.Context, ev *evidence.Evidence, now time.Time) error {
	nonce := st.nonce
	st.nonce = nil
	if nonce == nil {
		return errors.New("evidence without a challenge")
	}
	gate, id := st.server.cfg.Gate, st.device.ID
	verdict, err := gate.Admit(ctx, st.device, ev, appraise.Challenge{Nonce: nonce, SPKI: st.spki, Exporter: st.binder}, "attest")
	if err != nil {
		return err
	}
	if err := gate.Fleet().Trust(ctx, id, verdict.Release, now); err != nil {
		return err
	}
	if err := st.server.allow(ctx, id, now); err != nil {
		st.server.cfg.Log.Error("allow registration", "device", id, "error", err)
	}
	st.release = verdict.Release
	if st.proved {
		return nil
	}
	st.proved = true
	if err := gate.Note(ctx, "device:"+string(id), "attest.trusted", string(id), "release "+verdict.Release+", boot "+st.hello.BootID); err != nil {
		return err
	}
	return errors.Join(st.configure(ctx), st.offer())
}

// configure sends the newest configuration when the phone lacks it.
func (st *stream) configure(ctx context.Context) error {
	if !st.proved {
		return nil // it comes with the proof
	}
	s, id, now := st.server, st.device.ID, time.Now()
	d, err := s.cfg.Gate.Fleet().Device(ctx, id)
	if err != nil {
		return err
	}
	if d.State == fleet.Trusted { // before the configuration: a line that was taken away goes even if nothing can be sent
		if err := s.allow(ctx, id, d.LastProof); err != nil {
			s.cfg.Log.Error("allow registration", "device", id, "error", err)
		}
	}
	issued, err := s.cfg.Maker.Issue(ctx, id, d.SealKey, max(st.hello.ConfigVersion, d.ConfigSeen), now)
	if errors.Is(err, lockcfg.ErrIncomplete) {
		s.cfg.Log.Warn("no configuration to send", "device", id, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if issued.Version <= max(st.sent, st.hello.ConfigVersion) {
		return nil
	}
	st.sent = issued.Version
	return st.write(&wire.Message{Config: &wire.Config{Version: issued.Version, Sealed: issued.Sealed}})
}

func (st *stream) result(ctx context.Context, r *wire.Result, now time.Time) error {
	gate, id := st.server.cfg.Gate, st.device.ID
	cause := ""
	name, detail := "config.applied", fmt.Sprintf("version %d", r.Version)
	if !r.OK {
		cause = audit.Line(r.Cause+": "+r.Error, 512)
		name, detail = "config.refused", detail+": "+cause
	}
	if r.OK && r.Version > st.sent && r.Version > st.hello.ConfigVersion {
		return fmt.Errorf("result for version %d, which was never sent", r.Version)
	}
	if err := gate.Fleet().Report(ctx, id, r.Version, cause, now); err != nil {
		return err
	}
	return gate.Note(ctx, "device:"+string(id), name, string(id), detail)
}

const maxListed = 64

func (st *stream) report(ctx context.Context, r *report.Report, now time.Time) error {
	if len(r.Events) > maxListed || len(r.Calls) > maxListed {
		return fmt.Errorf("report with %d events and %d calls, at most %d each", len(r.Events), len(r.Calls), maxListed)
	}
	id := st.device.ID
	for _, e := range r.Events {
		detail := fmt.Sprintf("%s at %s: %.512s", e.Role, e.Time.UTC().Format(time.RFC3339), e.Detail)
		if err := st.server.cfg.Gate.Note(ctx, "device:"+string(id), "phone."+e.Name, string(id), detail); err != nil {
			return err
		}
		// The phone measured what it found before it said so: ask for the
		// proof now, not at the next interval.
		st.hurry = st.hurry || e.Name == report.RadioFound
	}
	for _, call := range r.Calls {
		if err := st.put(ctx, id, "call", now, call); err != nil {
			return err
		}
	}
	if r.Status != nil {
		if err := st.put(ctx, id, "status", now, r.Status); err != nil {
			return err
		}
	}
	return st.server.cfg.Gate.Fleet().Report(ctx, id, 0, "", now)
}

func (st *stream) put(ctx context.Context, id device.ID, kind string, now time.Time, body any) error {
	return st.server.cfg.Reports.PutReport(ctx, id, kind, now, body)
}
