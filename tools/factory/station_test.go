package factory

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/firmware/agent"
	"ringfence/firmware/attest"
	"ringfence/firmware/identity"
	"ringfence/hal/tpm"
	"ringfence/hal/tpm/tpmtest"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	wire "ringfence/provisioning/wire/factory"
	"ringfence/provisioning/wire/lock"
)

func issue(t *testing.T, name string, isCA bool, parent *x509.Certificate, by crypto.Signer) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: isCA, BasicConstraintsValid: true}
	if isCA {
		cert.KeyUsage = x509.KeyUsageCertSign
	}
	if parent == nil {
		parent, by = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func newManufacturer(t *testing.T) *Manufacturer {
	ca, caKey := issue(t, "Example Phones device CA", true, nil, nil)
	voucher, voucherKey := issue(t, enroll.VoucherSigner, false, ca, caKey)
	return &Manufacturer{CA: ca, CAKey: caKey, Voucher: voucher, VoucherKey: voucherKey}
}

// startPhone runs a blank phone's agent on one end of a line and returns the
// other end.
func startPhone(t *testing.T, vtpm *tpmtest.TPM, dir string, wrap func(io.ReadWriteCloser) io.ReadWriteCloser) io.ReadWriteCloser {
	t.Helper()
	near, far := net.Pipe()
	a, err := agent.New(agent.Config{TPM: vtpm.Device, Floor: vtpm.Device.Floor(tpm.ConfigFloor), StateDir: dir,
		Model: "virt64", Release: "1.0.0", Serial: func() (io.ReadWriteCloser, error) { return near, nil },
		Hint: func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
		Logs: attest.Logs{
			Event: func() ([]byte, error) { return []byte("event log"), nil },
			IMA:   func() ([]byte, error) { return nil, nil },
			Phone: func() []evidence.Entry { return nil }},
		OnConfig: func(*lock.Config) error { return nil }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if wrap != nil {
		return wrap(far)
	}
	return far
}

func enrol(t *testing.T, line io.ReadWriteCloser, roots []*x509.Certificate, m *Manufacturer) (*wire.Unit, error) {
	t.Helper()
	s, err := New(Config{Line: line, EKRoots: roots, Manufacturer: m, Log: slog.New(slog.DiscardHandler), Answer: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.Enroll(t.Context(), "RF-000001")
}

func hasIdentity(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "factory.json"))
	return err == nil
}

// damaged flips one byte of every n-th read.
type damaged struct {
	io.ReadWriteCloser
	reads int
}

func (d *damaged) Read(p []byte) (int, error) {
	n, err := d.ReadWriteCloser.Read(p)
	if d.reads++; d.reads == 1 && n > 10 {
		p[9] ^= 1
	}
	return n, err
}

func TestEnrollAndVoucher(t *testing.T) {
	vtpm, dir, m := tpmtest.Start(t), t.TempDir(), newManufacturer(t)
	line := startPhone(t, vtpm, dir, func(c io.ReadWriteCloser) io.ReadWriteCloser { return &damaged{ReadWriteCloser: c} })
	unit, err := enrol(t, line, vtpm.Roots, m)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := identity.Load(vtpm.Device, dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := identity.LoadFactory(dir, keys)
	if err != nil || f.Device != "RF-000001" {
		t.Fatalf("LoadFactory = %v, %v, want RF-000001", f, err)
	}
	leaf, err := x509.ParseCertificate(f.IDevID[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := leaf.NotAfter.UTC().Format("20060102150405Z"); got != "99991231235959Z" {
		t.Errorf("IDevID notAfter = %s, want 99991231235959Z", got)
	}
	path := filepath.Join(t.TempDir(), "manifest.json")
	if err := AddUnit(path, m, *unit); err != nil {
		t.Fatal(err)
	}
	if err := AddUnit(path, m, *unit); err == nil {
		t.Error("AddUnit twice = nil error")
	}
	checkVouchers(t, m, f)
}

func checkVouchers(t *testing.T, m *Manufacturer, f *identity.Factory) {
	owner, _ := issue(t, "owner", true, nil, nil)
	foreign := newManufacturer(t)
	wrongName := &Manufacturer{CA: m.CA, CAKey: m.CAKey}
	wrongName.Voucher, wrongName.VoucherKey = mustIssue(t, "other", m)
	for _, test := range []struct {
		name, device string
		by           *Manufacturer
		change       func([]byte)
		wantErr      string
	}{
		{"good", "RF-000001", m, nil, ""},
		{"other device", "RF-000002", m, nil, "RF-000002"},
		{"foreign manufacturer", "RF-000001", foreign, nil, "signer"},
		{"other signer name", "RF-000001", wrongName, nil, "other"},
		{"altered", "RF-000001", m, func(b []byte) {
			b[bytes.Index(b, []byte("created-on"))+15] ^= 1
		}, "verify voucher"},
	} {
		cms, err := test.by.IssueVoucher(deviceID(test.device), owner, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if test.change != nil {
			test.change(cms)
		}
		got, err := identity.VerifyVoucher(cms, f, time.Time{})
		if test.wantErr == "" {
			if err != nil || !got.Equal(owner) {
				t.Errorf("%s: VerifyVoucher = %v, want the owner", test.name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), test.wantErr) {
			t.Errorf("%s: VerifyVoucher = %v, want an error with %q", test.name, err, test.wantErr)
		}
	}
}

func TestRefusals(t *testing.T) {
	genuine, other := tpmtest.Start(t), tpmtest.Start(t)
	m := newManufacturer(t)
	for _, test := range []struct {
		name    string
		roots   []*x509.Certificate
		change  func(t *testing.T, identity *wire.Identity)
		wantErr string
	}{
		{"foreign EK root", other.Roots, nil, "endorsement key: certificate"},
		{"no EK certificate", genuine.Roots, func(_ *testing.T, i *wire.Identity) { i.EKCerts = nil }, "0 certificates"},
		{"EK certificate of another TPM", genuine.Roots, func(t *testing.T, i *wire.Identity) {
			_, i.EKCerts, _ = otherIdentity(t, other)
		}, "no certificate is for this key"},
		{"AK of another TPM", genuine.Roots, func(t *testing.T, i *wire.Identity) {
			keys, _, _ := otherIdentity(t, other)
			key, err := keys.Certify(wire.UseIDevID, lastNonce(i))
			if err != nil {
				t.Error(err)
			}
			i.AK, i.Key = keys.AK(), key
		}, "activate"},
		{"replayed certification", genuine.Roots, func(t *testing.T, i *wire.Identity) {
			keys, _, _ := otherIdentity(t, other)
			key, err := keys.Certify(wire.UseIDevID, make([]byte, 32))
			if err != nil {
				t.Error(err)
			}
			i.AK, i.Key = keys.AK(), key
		}, "replayed"},
		{"unrestricted key as AK", genuine.Roots, func(_ *testing.T, i *wire.Identity) { i.AK = i.Key.Public }, "restricted"},
		{"boot without extends", genuine.Roots, func(_ *testing.T, i *wire.Identity) { i.EventLog = nil }, "measured nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			line := startPhone(t, genuine, dir, func(c io.ReadWriteCloser) io.ReadWriteCloser {
				return newMiddle(t, c, test.change)
			})
			_, err := enrol(t, line, test.roots, m)
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("Enroll = %v, want an error with %q", err, test.wantErr)
			}
			if hasIdentity(dir) {
				t.Error("a refused phone has an IDevID")
			}
		})
	}
}

// TestTPMFailsMidway fails the TPM at every command of the exchange: the phone
// says so and keeps no half identity.
func TestTPMFailsMidway(t *testing.T) {
	vtpm, m := tpmtest.Start(t), newManufacturer(t)
	for _, kind := range []tpmtest.Fault{tpmtest.Lost, tpmtest.Short} {
		for _, at := range []int{1, 2, 4, 7, 12, 20, 30} {
			dir := t.TempDir()
			vtpm.Faults.FailAt(0, kind)
			line := startPhone(t, vtpm, dir, nil)
			vtpm.Faults.FailAt(at, kind)
			_, err := enrol(t, line, vtpm.Roots, m)
			if err == nil || !errors.Is(err, ErrRefused) {
				t.Errorf("Enroll with fault %d at command %d = %v, want a refusal by the phone", kind, at, err)
			}
			if hasIdentity(dir) {
				t.Errorf("fault %d at command %d: the phone has an IDevID", kind, at)
			}
			vtpm.Faults.FailAt(0, kind)
			if _, err := identity.Load(vtpm.Device, dir); err != nil && !errors.Is(err, identity.ErrNone) {
				t.Errorf("fault %d at command %d: half keys: %v", kind, at, err)
			}
		}
	}
}
