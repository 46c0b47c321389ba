package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// TPMAuthority is the private certificate authority that plays the TPM
// manufacturer: it issues endorsement key certificates. It lives in one
// directory per laboratory and is made on first use.
type TPMAuthority struct{ dir string }

// NewTPMAuthority uses dir, which it creates (mode 0700).
func NewTPMAuthority(dir string) (*TPMAuthority, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("TPM authority %s: %w", dir, err)
	}
	if err := os.MkdirAll(absolute, 0o700); err != nil {
		return nil, fmt.Errorf("TPM authority: %w", err)
	}
	a := &TPMAuthority{dir: absolute}
	localca := fmt.Sprintf("statedir = %s\nsigningkey = %s\nissuercert = %s\ncertserial = %s\n",
		absolute, a.path("signkey.pem"), a.path("issuercert.pem"), a.path("certserial"))
	setup := fmt.Sprintf("create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\nactive_pcr_banks = sha256\n",
		a.path("localca.conf"), a.path("localca.options"))
	const options = "--platform-manufacturer Ringfence\n--platform-version 1\n--platform-model virt64\n"
	for name, text := range map[string]string{"localca.conf": localca, "setup.conf": setup, "localca.options": options} {
		if err := os.WriteFile(a.path(name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("TPM authority: %w", err)
		}
	}
	return a, nil
}

func (a *TPMAuthority) path(name string) string { return filepath.Join(a.dir, name) }

// Roots returns the root certificate, PEM. It exists once a TPM was made.
func (a *TPMAuthority) Roots() ([]byte, error) { return a.certificate("swtpm-localca-rootca-cert.pem") }

// Intermediates returns the issuing certificate, PEM. EK certificates are
// signed by it and do not carry it.
func (a *TPMAuthority) Intermediates() ([]byte, error) { return a.certificate("issuercert.pem") }

func (a *TPMAuthority) certificate(name string) ([]byte, error) {
	pem, err := os.ReadFile(a.path(name))
	if err != nil {
		return nil, fmt.Errorf("TPM authority: %w", err)
	}
	return pem, nil
}

// Manufacture makes a new TPM 2.0 in state (created, mode 0700; an earlier TPM
// there is destroyed) with an RSA-2048 endorsement key and its certificate in
// NV 0x1c00002, and the SHA-256 bank only: UEFI hashes every image once per bank.
// NV is not locked: the EK certificate is a platform index, and the platform
// hierarchy is closed by UEFI before any operating system runs.
func (a *TPMAuthority) Manufacture(ctx context.Context, state, serial string) error {
	state, err := filepath.Abs(state)
	if err != nil {
		return fmt.Errorf("manufacture TPM: %w", err)
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("manufacture TPM: %w", err)
	}
	unlock, err := lockFile(a.path("lock")) // the authority's serial number file has no lock of its own
	if err != nil {
		return fmt.Errorf("manufacture TPM: %w", err)
	}
	defer unlock()
	cmd := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--tpmstate", state, "--config", a.path("setup.conf"),
		"--create-ek-cert", "--vmid", serial, "--pcr-banks", "sha256", "--overwrite")
	own(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("manufacture TPM in %s: %w: %s", state, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// startTPM runs the TPM of a machine: it ends when the machine's end of the
// connection closes. The far end is for the emulator. Without existing, an
// empty TPM is made on the fly.
func startTPM(state, log string, existing bool) (cmd *exec.Cmd, far *os.File, err error) {
	if state, err = filepath.Abs(state); err != nil {
		return nil, nil, fmt.Errorf("start TPM: %w", err)
	}
	if _, err := os.Stat(filepath.Join(state, "tpm2-00.permall")); existing && err != nil {
		return nil, nil, fmt.Errorf("start TPM: no TPM was manufactured there: %w", err)
	}
	near, far, err := socketPair()
	if err != nil {
		return nil, nil, fmt.Errorf("start TPM: %w", err)
	}
	defer near.Close()
	inherited, err := near.File()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start TPM: %w", err), far.Close())
	}
	defer inherited.Close()
	cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--ctrl", "type=unixio,clientfd=3",
		"--log", "level=1,file="+log, "--terminate")
	own(cmd)
	cmd.ExtraFiles = []*os.File{inherited}
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start TPM: %w", err), far.Close())
	}
	return cmd, far, nil
}
