package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Machine is the part of a board's QEMU arguments that its device tree depends
// on.
type Machine struct {
	Type   string // -M, without dumpdtb
	CPU    string // -cpu
	SMP    int    // -smp
	Memory int    // -m, in MiB
}

// Virt64 is the machine of the board virt64. ACPI is off so that the kernel
// uses the device tree, by which a board is recognized.
func Virt64() Machine { return Machine{Type: "virt,acpi=off", CPU: "cortex-a53", SMP: 1, Memory: 256} }

// Tree is a board's device tree.
type Tree struct {
	Board  []byte // what the board is started with
	Kernel []byte // what the kernel sees of it: with the firmware's changes, without those of each boot
}

// DeviceTree makes the device tree of the board in folder dir: the tree that
// QEMU makes for m with a TPM (a tree without the TPM's node makes AAVMF
// measure nothing), merged with the board's phone.dtsi; for the kernel's view
// also with firmware.dtsi.
func DeviceTree(ctx context.Context, m Machine, dir string) (*Tree, error) {
	tmp, err := os.MkdirTemp("", "rf-dtb-") // short: it holds a unix socket
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := dumpTree(ctx, tmp, m); err != nil {
		return nil, fmt.Errorf("dump device tree: %w", err)
	}
	dtc, err := tool("dtc", "device-tree-compiler")
	if err != nil {
		return nil, err
	}
	source, err := run(ctx, tmp, nil, dtc, "-q", "-I", "dtb", "-O", "dts", "-s", "dump.dtb")
	if err != nil {
		return nil, err
	}
	if !strings.Contains(source, "tcg,tpm-tis-mmio") {
		return nil, fmt.Errorf("dump device tree: QEMU's tree for %s has no TPM", m.Type)
	}
	t := &Tree{}
	if t.Board, err = compileTree(ctx, tmp, dtc, source, filepath.Join(dir, "phone.dtsi")); err != nil {
		return nil, err
	}
	t.Kernel, err = compileTree(ctx, tmp, dtc, source, filepath.Join(dir, "phone.dtsi"), filepath.Join(dir, "firmware.dtsi"))
	return t, err
}

func compileTree(ctx context.Context, tmp, dtc, source string, additions ...string) ([]byte, error) {
	for _, path := range additions {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("device tree: %w", err)
		}
		source += string(text)
	}
	if err := os.WriteFile(filepath.Join(tmp, "in.dts"), []byte(source), 0o600); err != nil {
		return nil, err
	}
	if _, err := run(ctx, tmp, nil, dtc, "-q", "-I", "dts", "-O", "dtb", "-s", "-o", "out.dtb", "in.dts"); err != nil {
		return nil, fmt.Errorf("compile device tree: %w", err)
	}
	return os.ReadFile(filepath.Join(tmp, "out.dtb"))
}

// dumpTree has QEMU write dir/dump.dtb and exit. QEMU wants a live TPM for
// that, so a fresh software TPM serves this one run.
func dumpTree(ctx context.Context, dir string, m Machine) error {
	stop, err := startTPM(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()
	qemu, err := tool("qemu-system-aarch64", "qemu-system-arm")
	if err != nil {
		return err
	}
	args := append(machineArgs(m), tpmArgs(dir)...)
	args = append(args, "-display", "none", "-nic", "none", "-serial", "none", "-monitor", "none")
	args[1] += ",dumpdtb=" + filepath.Join(dir, "dump.dtb")
	if pair, err := flashArgs(dir); err != nil {
		return err
	} else {
		args = append(args, pair...)
	}
	_, err = run(ctx, dir, nil, qemu, args...)
	return err
}
