package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// FirmwareCode is Debian's UEFI firmware for QEMU's arm64 virt machine.
const FirmwareCode = "/usr/share/AAVMF/AAVMF_CODE.fd"

func machineArgs(m Machine) []string {
	return []string{"-M", m.Type, "-cpu", m.CPU, "-smp", fmt.Sprint(m.SMP), "-m", fmt.Sprint(m.Memory)}
}

func tpmArgs(dir string) []string {
	return []string{"-chardev", "socket,id=ctpm,path=" + filepath.Join(dir, "tpm.sock"),
		"-tpmdev", "emulator,id=tpm0,chardev=ctpm", "-device", "tpm-tis-device,tpmdev=tpm0"}
}

// flashArgs gives the machine its two flash banks; dir/vars.fd is made empty
// when it is not there.
func flashArgs(dir string) ([]string, error) {
	vars := filepath.Join(dir, "vars.fd")
	if _, err := os.Stat(vars); errors.Is(err, os.ErrNotExist) {
		if err := emptyFile(vars, varsFileSize); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(FirmwareCode); err != nil {
		return nil, fmt.Errorf("UEFI firmware: %w (apt-get install qemu-efi-aarch64)", err)
	}
	return []string{"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + FirmwareCode,
		"-drive", "if=pflash,format=raw,unit=1,file=" + vars}, nil
}

// startTPM starts a software TPM with only the SHA-256 bank, its state in
// dir/tpm and its socket at dir/tpm.sock. It ends with its client or by stop.
func startTPM(ctx context.Context, dir string) (stop func(), err error) {
	setup, err := tool("swtpm_setup", "swtpm-tools")
	if err != nil {
		return nil, err
	}
	swtpm, err := tool("swtpm", "swtpm")
	if err != nil {
		return nil, err
	}
	state, socket := filepath.Join(dir, "tpm"), filepath.Join(dir, "tpm.sock")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	if _, err := run(ctx, dir, nil, setup, "--tpm2", "--tpmstate", state, "--pcr-banks", "sha256", "--overwrite"); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, swtpm, "socket", "--tpm2", "--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+socket, "-t")
	endGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill() // it may have ended with its client
		_ = cmd.Wait()
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return stop, nil
		}
	}
	stop()
	return nil, errors.New("start swtpm: no socket after 10 s")
}
