package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/firmware/measure"
)

func requireQEMU(t *testing.T) {
	t.Helper()
	if os.Getenv("RINGFENCE_QEMU") != "1" {
		t.Skip("SKIPPED, nothing was checked: set RINGFENCE_QEMU=1 to boot boards")
	}
}

// probeField returns what the probe said under name.
func probeField(t *testing.T, console, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(console, "PROBE "+name+" ")
	if !ok {
		t.Fatalf("console has no PROBE %s:\n%s", name, tail(console, 3000))
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

func TestExplore(t *testing.T) {
	requireQEMU(t)
	ctx := t.Context()
	dir := t.TempDir()
	m := Manufacturer(filepath.Join(dir, "m"))
	if err := InitManufacturer(string(m), "Test", time.Now()); err != nil {
		t.Fatal(err)
	}
	kern, err := BuildKernel(ctx, KernelConfig{Fragments: Fragments("../../boards/virt64", false), Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	kimg, _ := os.ReadFile(kern.Image)
	stub, err := FetchStub(ctx, "", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := BuildProgram(ctx, Program{Package: "./tools/image/probe"})
	if err != nil {
		t.Fatal(err)
	}
	uki, err := UKI(Parts{Stub: stub.Data, Kernel: kimg, Initramfs: Initramfs(prog), CommandLine: CommandLine("virt64", "1.0.0", ""), OSRelease: OSRelease("virt64", "1.0.0")})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := SignImage(ctx, uki, m)
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk.img")
	if err := FlashDisk(ctx, disk, signed, nil); err != nil {
		t.Fatal(err)
	}
	certs, _ := m.SecureBoot()
	vars, err := VariableStore(certs)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := DeviceTree(ctx, Virt64(), "../../boards/virt64")
	if err != nil {
		t.Fatal(err)
	}
	bctx, cancel := context.WithTimeout(ctx, 50*time.Second)
	defer cancel()
	start := time.Now()
	console, err := labBoard{Virt64(), tree.Board, vars, disk}.boot(bctx)
	t.Logf("boot %s %v", time.Since(start), err)
	os.WriteFile("/tmp/ringfence-console.txt", []byte(console), 0o644)
	os.WriteFile("/tmp/ringfence-uki.efi", uki, 0o644)
	os.WriteFile("/tmp/ringfence-disk.img", nil, 0o644)
	fdt, _ := base64.StdEncoding.DecodeString(probeField(t, console, "fdt"))
	os.WriteFile("/tmp/ringfence-guest.dtb", fdt, 0o644)
	os.WriteFile("/tmp/ringfence-given.dtb", tree.Kernel, 0o644)
	log, _ := base64.StdEncoding.DecodeString(probeField(t, console, "log"))
	os.WriteFile("/tmp/ringfence-eventlog.bin", log, 0o644)
	a, _ := measure.DeviceTree(tree.Kernel)
	b, err := measure.DeviceTree(fdt)
	if !bytes.Equal(a[:], b[:]) {
		t.Errorf("dt %x %x %v", a, b, err)
	}
}
