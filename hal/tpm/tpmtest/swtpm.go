// Package tpmtest gives tests a real TPM 2.0 (swtpm, one process and one
// private EK certificate authority per test) and a transport that fails on
// demand. It is never part of the phone.
package tpmtest

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"ringfence/hal/tpm"
)

// TPM is a running swtpm.
type TPM struct {
	Device *tpm.Device         // open; closed at the end of the test
	Faults *Faults             // between Device and swtpm
	Roots  []*x509.Certificate // of the EK certificate: root and intermediate
	PEM    []byte              // Roots as PEM
}

// Floor returns the configuration floor, for tests that may not import hal/tpm.
func (v *TPM) Floor() *tpm.Floor { return v.Device.Floor(tpm.ConfigFloor) }

// Start runs a swtpm with an EK certificate until the test ends. Without swtpm
// the test is skipped; with RINGFENCE_REQUIRE it fails.
func Start(t testing.TB) *TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm_setup"); err != nil {
		if os.Getenv("RINGFENCE_REQUIRE") != "" {
			t.Fatal("swtpm_setup is not installed")
		}
		t.Skip("swtpm_setup is not installed")
	}
	dir := t.TempDir()
	roots, bundle, err := setup(dir)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := serve(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	faults := &Faults{conn: conn}
	device, err := tpm.New(faults)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = device.Close() }) // may be closed by the test already
	return &TPM{Device: device, Faults: faults, Roots: roots, PEM: bundle}
}

func setup(dir string) ([]*x509.Certificate, []byte, error) {
	ca := filepath.Join(dir, "ca")
	local := fmt.Sprintf("statedir = %s\nsigningkey = %s/signkey.pem\nissuercert = %s/issuercert.pem\ncertserial = %s/certserial\n", ca, ca, ca, ca)
	conf := fmt.Sprintf("create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = %s/localca.conf\n"+
		"create_certs_tool_options = /etc/swtpm-localca.options\nactive_pcr_banks = sha256\n", dir)
	for name, text := range map[string]string{"localca.conf": local, "setup.conf": conf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range []string{"ca", "state"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, nil, err
		}
	}
	out, err := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", filepath.Join(dir, "state"),
		"--config", filepath.Join(dir, "setup.conf"), "--create-ek-cert", "--pcr-banks", "sha256",
		"--lock-nvram", "--overwrite", "--vmid", filepath.Base(dir)).CombinedOutput()
	if err != nil {
		return nil, nil, fmt.Errorf("swtpm_setup: %w\n%s", err, out)
	}
	return readRoots(filepath.Join(ca, "swtpm-localca-rootca-cert.pem"), filepath.Join(ca, "issuercert.pem"))
}

func readRoots(paths ...string) (certs []*x509.Certificate, bundle []byte, err error) {
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			return nil, nil, fmt.Errorf("%s: no PEM", path)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		certs, bundle = append(certs, cert), append(bundle, pem.EncodeToMemory(block)...)
	}
	return certs, bundle, nil
}

// serve starts swtpm and returns its command connection. The socket directory
// is short: a unix socket's path has at most 107 bytes.
func serve(t testing.TB, dir string) (io.ReadWriteCloser, error) {
	sockets, err := os.MkdirTemp("", "rf-tpm-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) }) // best effort on a temporary directory
	path := filepath.Join(sockets, "sock")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(dir, "state"),
		"--server", "type=unixio,path="+path, "--ctrl", "type=unixio,path="+path+".ctrl",
		"--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() }) // ends by our signal
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn, nil
		}
		if time.Since(start) > 10*time.Second {
			return nil, fmt.Errorf("connect to swtpm: %w", err)
		}
	}
}

var _ transport.TPMCloser = (*Faults)(nil)
