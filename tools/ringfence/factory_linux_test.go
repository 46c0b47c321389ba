package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/firmware/agent"
	"ringfence/firmware/attest"
	"ringfence/firmware/identity"
	"ringfence/hal/tpm/tpmtest"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/lock"
	"ringfence/tools/factory"
	"ringfence/tools/tooltest"
)

// openPTY returns a pseudo terminal: the phone's end and the path of the
// station's end.
func openPTY(t *testing.T) (*os.File, string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		tooltest.Missingf(t, "no pseudo terminals: %v", err)
	}
	master := os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { _ = master.Close() }) // closed by the phone already
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", n)
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func writePair(t *testing.T, dir, file, name string, isCA bool, by *pair) *pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: isCA, BasicConstraintsValid: true}
	if by == nil {
		by = &pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, file+".pem"), "CERTIFICATE", der)
	writePEM(t, filepath.Join(dir, file+".key"), "PRIVATE KEY", private)
	return &pair{cert, key}
}

func command(args ...string) (string, error) {
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

// TestFactoryOverTerminal enrols a phone with a real TPM over a real terminal
// line, then gives it to an owner.
func TestFactoryOverTerminal(t *testing.T) {
	vtpm, dir, state := tpmtest.Start(t), t.TempDir(), t.TempDir()
	ca := writePair(t, dir, "device-ca", "Example Phones device CA", true, nil)
	writePair(t, dir, "voucher", enroll.VoucherSigner, false, ca)
	owner := writePair(t, dir, "owner", "owner", true, nil)
	roots, manifest := filepath.Join(dir, "ek.pem"), filepath.Join(dir, "manifest.json")
	if err := os.WriteFile(roots, vtpm.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	line, port := openPTY(t)
	phone, err := agent.New(agent.Config{TPM: vtpm.Device, Floor: vtpm.Floor(), StateDir: state, Model: "virt64", Release: "1.0.0", Serial: func() (io.ReadWriteCloser, error) { return line, nil },
		Hint: func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
		Logs: attest.Logs{Event: func() ([]byte, error) { return []byte("log"), nil }, IMA: func() ([]byte, error) { return nil, nil },
			Phone: func() []evidence.Entry { return nil }},
		OnConfig: func(*lock.Config) error { return nil }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- phone.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	enroll := []string{"factory", "enroll", "--port", port, "--manufacturer", dir, "--ek-roots", roots,
		"--device", "RF-000001", "--manifest", manifest, "--timeout", "60s"}
	if out, err := command(enroll...); err != nil || !strings.Contains(out, "RF-000001 (virt64) enrolled") {
		t.Fatalf("factory enroll = %v\n%s", err, out)
	}
	if _, err := command(enroll...); err == nil || !strings.Contains(err.Error(), "lists RF-000001 already") {
		t.Errorf("the same serial number again = %v", err)
	}
	if out, err := command("voucher", "--manufacturer", dir, "--manifest", manifest, "--owner-ca", filepath.Join(dir, "owner.pem")); err != nil {
		t.Fatalf("voucher = %v\n%s", err, out)
	}
	m, err := factory.ReadManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := identity.VerifyVoucher(m.Units[0].Voucher, &identity.Factory{Device: "RF-000001", Anchors: []*x509.Certificate{ca.cert}}, time.Now())
	if err != nil || !pinned.Equal(owner.cert) {
		t.Errorf("voucher pins %v, %v, want the owner", pinned, err)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "RF-000001.log")); err != nil || !bytes.Contains(log, []byte("unit done")) {
		t.Errorf("unit log %q, %v", log, err)
	}
}
