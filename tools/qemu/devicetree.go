package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// seeds are random values that QEMU puts into the tree it generates. They are
// taken out: with a fixed tree they would be neither random nor reproducible.
var seeds = regexp.MustCompile(`(?m)^\s*(rng-seed|kaslr-seed) = <[^>]*>;\n`)

// BuildDeviceTree writes the board's device tree to out: what QEMU generates for
// the specification *with* its TPM (UEFI measures nothing where the TPM node is
// missing), plus the nodes of a device tree source file. It needs dtc.
func BuildDeviceTree(ctx context.Context, s Spec, nodes, out string) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("build device tree: %w", err)
	}
	extra, err := os.ReadFile(nodes)
	if err != nil {
		return fmt.Errorf("build device tree: %w", err)
	}
	dir, err := os.MkdirTemp("", "devicetree")
	if err != nil {
		return fmt.Errorf("build device tree: %w", err)
	}
	defer os.RemoveAll(dir)
	dump := filepath.Join(dir, "dump.dtb")
	if err := dumpDeviceTree(ctx, s, dir, dump); err != nil {
		return fmt.Errorf("build device tree: %w", err)
	}
	source, err := exec.CommandContext(ctx, "dtc", "-q", "-I", "dtb", "-O", "dts", dump).Output()
	if err != nil {
		return fmt.Errorf("build device tree: decompile: %w", err)
	}
	source = append(seeds.ReplaceAll(source, nil), extra...)
	merged := filepath.Join(dir, "merged.dts")
	if err := os.WriteFile(merged, source, 0o600); err != nil {
		return fmt.Errorf("build device tree: %w", err)
	}
	compile := exec.CommandContext(ctx, "dtc", "-q", "-I", "dts", "-O", "dtb", "-o", out, merged)
	if output, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("build device tree: compile: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}

// dumpDeviceTree has QEMU write its own tree. The TPM device needs a TPM to be
// connected even for that.
func dumpDeviceTree(ctx context.Context, s Spec, dir, out string) error {
	args := []string{"-nodefaults", "-display", "none", "-machine", s.Machine + ",dumpdtb=" + quote(out),
		"-cpu", s.CPU, "-smp", fmt.Sprint(s.Cores), "-m", fmt.Sprint(s.MemoryMiB)}
	var files []*os.File
	for _, d := range s.Devices {
		if d.Role != RoleTPM {
			continue
		}
		state := filepath.Join(dir, "tpm")
		if err := os.Mkdir(state, 0o700); err != nil {
			return err
		}
		cmd, far, err := startTPM(state, filepath.Join(dir, "tpm.log"), false)
		if err != nil {
			return err
		}
		defer func() { _ = cmd.Wait() }() // it ends with its connection; its state is thrown away
		defer far.Close()
		files = append(files, far)
		args = append(args, Config{Spec: s, TPMDir: state}.deviceArguments(d, descriptors{tpm: 3})...)
	}
	cmd := exec.CommandContext(ctx, s.Emulator, args...)
	own(cmd)
	cmd.ExtraFiles = files
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dump: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}
