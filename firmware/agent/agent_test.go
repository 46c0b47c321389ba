package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/firmware/attest"
	"ringfence/firmware/identity"
	"ringfence/hal/tpm/tpmtest"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/factory"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

const phoneID device.ID = "RF-000001"

// phone is one phone with a real TPM that left the factory.
type phone struct {
	t            *testing.T
	vtpm         *tpmtest.TPM
	dir          string
	keys         *identity.Keys
	manufacturer *authority
	reports      chan report.Report

	onUpdate func(wire.Update)
	progress chan wire.Progress

	mu     sync.Mutex
	events []Event
	now    time.Duration // ahead of the wall clock
	used   []uint64      // versions applied
}

func newPhone(t *testing.T) *phone {
	t.Helper()
	p := &phone{t: t, vtpm: tpmtest.Start(t), dir: t.TempDir(), manufacturer: newAuthority(t, "manufacturer", true, nil),
		reports: make(chan report.Report, 1)}
	var err error
	if p.keys, err = identity.Create(p.vtpm.Device, p.dir); err != nil {
		t.Fatal(err)
	}
	if err := p.vtpm.Floor().Define(); err != nil {
		t.Fatal(err)
	}
	signer, err := p.keys.Signer("idevid")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := p.manufacturer.issue(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: device.Subject(phoneID, "virt64"),
		URIs: []*url.URL{phoneID.URN()}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}, signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.Install(p.dir, p.keys, &factory.Install{Device: phoneID, IDevID: [][]byte{cert.Raw},
		Anchors: [][]byte{p.manufacturer.cert.Raw}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// run starts the agent as one boot does; stop ends it.
func (p *phone) run(s *server) (a *Agent, stop func()) {
	p.t.Helper()
	p.events = nil
	a, err := New(Config{TPM: p.vtpm.Device, Floor: p.vtpm.Floor(), StateDir: p.dir, Model: "virt64", Release: "1.0.0",
		Hint: func(context.Context) (string, error) { return "https://prov.ringfence.test:8443", nil },
		Logs: attest.Logs{Event: func() ([]byte, error) { return []byte("events"), nil }, IMA: func() ([]byte, error) { return nil, nil },
			Phone: func() []evidence.Entry { return nil }},
		OnConfig: func(c *lock.Config) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.used = append(p.used, c.Version)
			return nil
		},
		OnEvent: func(e Event) { p.mu.Lock(); defer p.mu.Unlock(); p.events = append(p.events, e) },
		Log:     slog.New(slog.DiscardHandler), Dialer: s, Reports: p.reports, OnUpdate: p.onUpdate, Progress: p.progress,
		Now:   func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return time.Now().Add(p.now) },
		Retry: Retry{Base: 10 * time.Millisecond, Max: 50 * time.Millisecond, RefusedBase: 20 * time.Millisecond, RefusedMax: 50 * time.Millisecond},
		Check: 20 * time.Millisecond})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); !errors.Is(err, context.Canceled) {
			p.t.Errorf("Run = %v, want the end of its context", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	p.t.Cleanup(stop)
	return a, stop
}

func (p *phone) saw(name EventName, detail string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.events, func(e Event) bool { return e.Name == name && strings.Contains(e.Detail, detail) })
}

func (p *phone) await(what string, cond func() bool) {
	p.t.Helper()
	for start := time.Now(); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("waited in vain for: %s; events %q", what, p.events)
		}
	}
}

func (p *phone) seal(s *server, signer *authority, version uint64) []byte {
	p.t.Helper()
	key, err := p.keys.SealKey()
	if err != nil {
		p.t.Fatal(err)
	}
	sealed, err := lock.Seal(&lock.Config{Schema: lock.Schema, Device: phoneID, Version: version, Issued: time.Now(),
		CallServer: lock.CallServer{Address: "sip.ringfence.test:5061", ServerName: "sip.ringfence.test", Domain: "ringfence.test", CAs: [][]byte{s.owner.cert.Raw}},
		Lines:      []lock.Line{{User: "100"}},
		Media:      lock.Media{Codecs: []lock.Codec{lock.G722}, Suites: []lock.Suite{lock.AEADAES256GCM}, PortMin: 20000, PortMax: 20100},
		Policy:     lock.Policy{Radios: lock.RadiosOff, EmergencyNumbers: []string{"112"}},
		Management: lock.Management{ReportSeconds: 30}}, signer.key, signer.cert, key.PublicKey())
	if err != nil {
		p.t.Fatal(err)
	}
	return sealed
}

func ready(t *testing.T) (*phone, *server, *authority) {
	p := newPhone(t)
	owner := newAuthority(t, "owner", true, nil)
	s := startServer(t, owner, owner)
	s.voucher = issueVoucher(t, p.manufacturer, owner)
	signer := newAuthority(t, lock.SignerName, false, owner)
	s.config = p.seal(s, signer, 5)
	return p, s, signer
}

func TestLifeOfAPhone(t *testing.T) {
	p, s, signer := ready(t)
	a, stop := p.run(s)
	p.await("configured", func() bool { return p.saw(EventConfigured, "version=5") })
	for _, name := range []EventName{EventOwnerPinned, EventEnrolled, EventAttested} {
		if !p.saw(name, "") {
			t.Errorf("no event %s", name)
		}
	}
	p.await("result", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.results) == 1 && s.results[0].OK })
	p.reports <- report.Report{Events: []report.Event{{Name: "test"}}}
	p.await("report", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.reports) == 1 })
	checkSIP(t, a, s)
	want := []string{"simpleenroll management by manufacturer", "simpleenroll sip by management"}
	s.with(func() {
		if !slices.Equal(s.enrolled, want) {
			t.Errorf("enrolments %q, want %q", s.enrolled, want)
		}
	})
	stop()

	// The next boot enrols nothing and says what it has; an old configuration
	// is refused by name.
	s.config = p.seal(s, signer, 4)
	p.run(s)
	p.await("refused old configuration", func() bool { return p.saw(EventConfigRefused, "cause=version") })
	p.await("result", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.ContainsFunc(s.results, func(r wire.Result) bool { return !r.OK && r.Cause == "version" })
	})
	s.with(func() {
		if len(s.enrolled) != 2 || s.hello.ConfigVersion != 5 {
			t.Errorf("after reboot: enrolments %q, hello version %d, want no more and 5", s.enrolled, s.hello.ConfigVersion)
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.used, []uint64{5, 5}) {
		t.Errorf("applied %v, want 5 once per boot", p.used)
	}
}

func checkSIP(t *testing.T, a *Agent, s *server) {
	t.Helper()
	chain, err := a.SIPChain()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil || leaf.CheckSignatureFrom(s.sip.cert) != nil || leaf.URIs[0].Scheme != "sip" {
		t.Fatalf("SIP certificate %v, %v", leaf, err)
	}
	digest := sha256.Sum256([]byte("handshake"))
	sig, err := a.SignSIP(digest[:])
	if err != nil || !ecdsa.VerifyASN1(leaf.PublicKey.(*ecdsa.PublicKey), digest[:], sig) {
		t.Fatalf("SignSIP = %x, %v", sig, err)
	}
}

func TestRefusedEvidenceNeverServes(t *testing.T) {
	p, s, _ := ready(t)
	s.refuse = "PCR 4 differs: kernel"
	a, _ := p.run(s)
	p.await("refusal", func() bool { return p.saw(EventRefused, "PCR 4 differs: kernel") })
	if _, err := a.SignSIP(make([]byte, 32)); !errors.Is(err, ErrNotProven) {
		t.Errorf("SignSIP of a refused phone = %v, want ErrNotProven", err)
	}
	if len(p.used) != 0 || p.saw(EventConfigured, "") {
		t.Error("a refused phone applied a configuration")
	}
	s.with(func() { s.refuse = "" })
	p.await("recovery", func() bool { return p.saw(EventConfigured, "version=5") })
	if _, err := a.SignSIP(make([]byte, 32)); err != nil {
		t.Errorf("SignSIP after recovery = %v", err)
	}
}

func TestRefusedOnStreamStopsSIP(t *testing.T) {
	p, s, _ := ready(t)
	_, stop := p.run(s)
	p.await("configured", func() bool { return p.saw(EventConfigured, "") })
	stop()
	s.with(func() { s.refuse = "PCR 13: radio found" })
	a, _ := p.run(s)
	p.await("refusal", func() bool { return p.saw(EventRefused, "PCR 13: radio found") })
	if _, err := a.SIPChain(); !errors.Is(err, ErrNotProven) {
		t.Errorf("SIPChain = %v, want ErrNotProven", err)
	}
	if p.saw(EventConfigured, "") {
		t.Error("a phone that was refused at boot served its stored configuration")
	}
}

func TestRogueServer(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"server of another owner", "not the owner's"},
		{"voucher of another manufacturer", "voucher signer"},
	} {
		p := newPhone(t)
		owner, rogue := newAuthority(t, "owner", true, nil), newAuthority(t, "rogue", true, nil)
		s := startServer(t, owner, rogue)
		s.voucher = issueVoucher(t, p.manufacturer, owner)
		if strings.HasPrefix(test.name, "voucher") {
			s.voucher = issueVoucher(t, rogue, rogue)
		}
		_, stop := p.run(s)
		p.await(test.name, func() bool { return p.saw(EventDisconnected, test.want) })
		stop()
		if p.saw(EventOwnerPinned, "") || len(s.enrolled) != 0 {
			t.Errorf("%s: pinned or enrolled", test.name)
		}
	}
}

func TestStoredConfigurationSurvivesOutage(t *testing.T) {
	p, s, _ := ready(t)
	_, stop := p.run(s)
	p.await("configured", func() bool { return p.saw(EventConfigured, "") })
	stop()
	_ = s.listener.Close() // provisioning is down
	s.drop()
	a, _ := p.run(s)
	p.await("stored configuration", func() bool { return p.saw(EventConfigured, "stored") })
	if _, err := a.SignSIP(make([]byte, 32)); err != nil {
		t.Errorf("SignSIP during an outage = %v", err)
	}
}

func TestRenewalAndRecovery(t *testing.T) {
	p, s, _ := ready(t)
	s.past = 12 * time.Hour
	_, stop := p.run(s)
	p.await("renewal", func() bool { return p.saw(EventRenewed, "management") && p.saw(EventRenewed, "sip") })
	stop()
	s.with(func() {
		if !slices.Contains(s.enrolled, "simplereenroll management by management") || !slices.Contains(s.enrolled, "simplereenroll sip by management") {
			t.Errorf("enrolments %q, want simplereenroll of both by management", s.enrolled)
		}
		s.enrolled, s.past = nil, 0
	})
	p.mu.Lock()
	p.now = 13 * time.Hour // the phone was off: both certificates are expired
	p.mu.Unlock()
	p.run(s)
	p.await("recovery by IDevID", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Contains(s.enrolled, "simpleenroll management by manufacturer")
	})
}

// TestForgottenCertificate: a server that lost its database closes the stream
// of a certificate it does not know; the IDevID is the way back.
func TestForgottenCertificate(t *testing.T) {
	p, s, _ := ready(t)
	_, stop := p.run(s)
	p.await("configured", func() bool { return p.saw(EventConfigured, "") })
	stop()
	s.with(func() { s.deaf, s.enrolled = true, nil })
	p.run(s)
	p.await("attested again", func() bool { return p.saw(EventAttested, "") })
	s.with(func() {
		if !slices.Contains(s.enrolled, "simpleenroll management by manufacturer") {
			t.Errorf("enrolments %q, want one by the IDevID", s.enrolled)
		}
	})
}

// TestTPMFailsWhileEnrolling: the phone says so, enrols nothing, and goes on
// when the TPM answers again.
func TestTPMFailsWhileEnrolling(t *testing.T) {
	for _, at := range []int{20, 24, 28} {
		p, s, _ := ready(t)
		p.vtpm.Faults.FailAt(at, tpmtest.Lost)
		p.run(s)
		p.await("failure said", func() bool { return p.saw(EventDisconnected, tpmtest.ErrInjected.Error()) })
		s.with(func() {
			if len(s.enrolled) != 0 || p.saw(EventEnrolled, "") {
				t.Errorf("TPM lost at command %d: enrolled %q", at, s.enrolled)
			}
		})
		p.vtpm.Faults.FailAt(0, tpmtest.Lost)
		p.await("configured", func() bool { return p.saw(EventConfigured, "") })
	}
}

func TestNoTPM(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "no TPM") {
		t.Fatalf("New without a TPM = %v", err)
	}
}
