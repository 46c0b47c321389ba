package push

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/provisioning/ca"
	"ringfence/provisioning/fleet"
	"ringfence/provisioning/fleet/sqlstore"
	"ringfence/provisioning/gatekeeper"
	"ringfence/provisioning/lockcfg"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/factory"
)

// table records what the call server is told.
type table struct {
	mu    sync.Mutex
	calls []string
}

func (r *table) Allow(_ context.Context, id device.ID, user string) error {
	return r.add(fmt.Sprintf("allow %s %s", id, user))
}

func (r *table) Revoke(_ context.Context, id device.ID) error { return r.add("revoke " + string(id)) }

func (r *table) add(s string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, s)
	return nil
}

func (r *table) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls, ", ")
}

type rig struct {
	server *Server
	fleet  *fleet.Fleet
	calls  *table
	ca     *ca.CA
	client tls.Certificate
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx := t.Context()
	store, err := sqlstore.Open(ctx, filepath.Join(t.TempDir(), "db"))
	must(t, err)
	t.Cleanup(func() { store.Close() })
	r := &rig{calls: new(table)}
	r.fleet, err = fleet.New(store)
	must(t, err)
	must(t, r.fleet.Import(ctx, &factory.Manifest{Manufacturer: "Maker", Units: []factory.Unit{{Device: "RF-0001", Model: "virt64"}}}))
	makers, err := trust.New(store)
	must(t, err)
	gate, err := gatekeeper.New(gatekeeper.Config{Fleet: r.fleet, Trust: makers, Audit: store})
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	r.ca, err = ca.NewRoot("management", key, time.Now(), time.Hour)
	must(t, err)
	maker, err := lockcfg.New(lockcfg.Config{Store: store, Signer: key, Certificate: r.ca.Certificate(), CAs: [][]byte{r.ca.Certificate().Raw}, Defaults: lockcfg.Defaults("sip.test", "test")})
	must(t, err)
	must(t, maker.Set(ctx, "RF-0001", lockcfg.Settings{"line.user": "100"}))
	leaf, err := r.ca.Management("RF-0001", key.Public(), time.Now(), time.Hour)
	must(t, err)
	r.client = tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	r.server, err = New(Config{Gate: gate, Maker: maker, Registrar: r.calls, Reports: store, Management: r.ca.Pool(),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), ProofTimeout: 300 * time.Millisecond, Lapse: time.Second})
	must(t, err)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial opens a stream over a pipe and says hello.
func (r *rig) dial(t *testing.T, hello *wire.Message) *tls.Conn {
	t.Helper()
	near, far := net.Pipe()
	server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{r.client}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13})
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{r.client}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if server.Handshake() == nil {
			r.server.Serve(context.Background(), server)
		}
	}()
	t.Cleanup(func() { near.Close(); <-done })
	frame, err := wire.AppendFrame(nil, hello)
	must(t, err)
	_, _ = client.Write(frame) // a server that refuses closes: the reader sees it
	return client
}

func goodHello() *wire.Message {
	return &wire.Message{Hello: &wire.Hello{Protocol: 1, Schema: 1, Release: "1.0.0", BootID: "b"}}
}

func untilBye(t *testing.T, c *tls.Conn) string {
	t.Helper()
	for {
		m, err := wire.ReadFrame(c)
		if err != nil {
			return err.Error()
		}
		if m.Bye != nil {
			return m.Bye.Reason
		}
	}
}

// TestSilence: a phone that does not answer its challenge is refused.
func TestSilence(t *testing.T) {
	r := newRig(t)
	if reason := untilBye(t, r.dial(t, goodHello())); !strings.Contains(reason, "no evidence within 300ms") {
		t.Errorf("bye = %q", reason)
	}
	if d, err := r.fleet.Device(t.Context(), "RF-0001"); err != nil || d.State != fleet.Refused {
		t.Errorf("Device = %+v, %v", d, err)
	}
}

// TestRefusedMessages: each is a protocol fault that ends the stream.
func TestRefusedMessages(t *testing.T) {
	values := make(map[int][]byte)
	for _, i := range evidence.PCRs {
		values[i] = make([]byte, 32)
	}
	for _, c := range []struct {
		name  string
		first *wire.Message
		then  *wire.Message
		want  string
	}{
		{"no hello", &wire.Message{Ping: &wire.Ping{}}, nil, "no hello of protocol"},
		{"other protocol", &wire.Message{Hello: &wire.Hello{Protocol: 9, Schema: 1}}, nil, "no hello of protocol"},
		{"server's message", goodHello(), &wire.Message{Bye: &wire.Bye{}}, "not expected"},
		{"evidence of no manufacturer", goodHello(), &wire.Message{Evidence: &evidence.Evidence{PCRValues: values}}, "manufacturer is not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			conn := r.dial(t, c.first)
			if c.then != nil {
				if _, err := wire.ReadFrame(conn); err != nil { // the challenge
					t.Fatal(err)
				}
				frame, err := wire.AppendFrame(nil, c.then)
				must(t, err)
				_, err = conn.Write(frame)
				must(t, err)
			}
			if reason := untilBye(t, conn); !strings.Contains(reason, c.want) {
				t.Errorf("end = %q, want %q", reason, c.want)
			}
		})
	}
}

// TestForeignCertificate: another authority's certificate opens no stream.
func TestForeignCertificate(t *testing.T) {
	r, other := newRig(t), newRig(t)
	r.client = other.client
	if m, err := wire.ReadFrame(r.dial(t, goodHello())); err == nil && (m.Bye == nil || !strings.Contains(m.Bye.Reason, "not a management certificate")) {
		t.Errorf("a foreign phone is sent %+v", m)
	}
	if len(r.server.Connected()) != 0 {
		t.Error("a foreign phone is connected")
	}
}

// TestLapse: a phone that vanished loses its registration, once.
func TestLapse(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	must(t, r.fleet.Trust(t.Context(), "RF-0001", "1.0.0", now))
	must(t, r.server.allow(t.Context(), "RF-0001", now))
	r.server.lapse(t.Context(), now.Add(900*time.Millisecond))
	r.server.lapse(t.Context(), now.Add(1100*time.Millisecond))
	r.server.lapse(t.Context(), now.Add(2*time.Second))
	if got := r.calls.String(); got != "allow RF-0001 100, revoke RF-0001" {
		t.Errorf("call server was told %q", got)
	}
	if d, err := r.fleet.Device(t.Context(), "RF-0001"); err != nil || d.State != fleet.Enrolled {
		t.Errorf("Device = %+v, %v", d, err)
	}
}

// TestLineChanges: taking a line away, or giving another, reaches the call
// server at once, whether the phone is connected or not.
func TestLineChanges(t *testing.T) {
	r := newRig(t)
	ctx, now := t.Context(), time.Now()
	set := func(user string) {
		t.Helper()
		must(t, r.server.cfg.Maker.Set(ctx, "RF-0001", lockcfg.Settings{"line.user": user}))
		must(t, r.server.LineChanged(ctx, "RF-0001"))
	}
	set("99") // not proved yet: the call server hears nothing
	must(t, r.fleet.Trust(ctx, "RF-0001", "1.0.0", now))
	must(t, r.server.allow(ctx, "RF-0001", now))
	set("101")
	set("")
	set("102")
	if got, want := r.calls.String(), "allow RF-0001 99, allow RF-0001 101, revoke RF-0001, allow RF-0001 102"; got != want {
		t.Errorf("call server was told %q, want %q", got, want)
	}
}

// TestRefusalWins: a proof that was accepted just before a refusal does not
// put the phone back on the call server.
func TestRefusalWins(t *testing.T) {
	for name, refuse := range map[string]func(*rig) error{
		"refused": func(r *rig) error { return r.fleet.Refuse(t.Context(), "RF-0001", "x") },
		"retired": func(r *rig) error { return r.fleet.Retire(t.Context(), "RF-0001") },
	} {
		r := newRig(t)
		must(t, r.fleet.Trust(t.Context(), "RF-0001", "1.0.0", time.Now()))
		must(t, refuse(r))
		must(t, r.server.allow(t.Context(), "RF-0001", time.Now())) // the tail of the proof's work
		if got := r.calls.String(); got != "allow RF-0001 100, revoke RF-0001" {
			t.Errorf("%s: call server was told %q", name, got)
		}
	}
}
