package image

import (
	"bytes"
	"os/exec"
	"testing"

	"ringfence/firmware/measure"
)

func TestDeviceTreeIsReproducible(t *testing.T) {
	for _, name := range []string{"qemu-system-aarch64", "swtpm", "dtc"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("SKIPPED, nothing was checked: %v", err)
		}
	}
	first, err := DeviceTree(t.Context(), Virt64(), "../../boards/virt64")
	if err != nil {
		t.Fatal(err)
	}
	second, err := DeviceTree(t.Context(), Virt64(), "../../boards/virt64")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Board, second.Board) || !bytes.Equal(first.Kernel, second.Kernel) {
		t.Error("two device trees of one machine differ")
	}
	d, err := measure.DeviceTree(first.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("canonical digest %x", d)
}
