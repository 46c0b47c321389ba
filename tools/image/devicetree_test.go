package image

import (
	"bytes"
	"os"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"ringfence/firmware/measure"
	"ringfence/tools/tooltest"
)

func TestDeviceTreeIsReproducible(t *testing.T) {
	tooltest.Need(t, "qemu-system-aarch64", "swtpm", "dtc")
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

// The machine that the tree is made for is the one that tools/qemu starts.
func TestMachineIsTheBoards(t *testing.T) {
	raw, err := os.ReadFile("../../boards/virt64/qemu.toml")
	var board struct {
		Machine, CPU string
		Cores        int
		Memory       int `toml:"memory_mib"`
	}
	if err != nil || toml.Unmarshal(raw, &board) != nil {
		t.Fatalf("qemu.toml cannot be read: %v", err)
	}
	if got, want := Virt64(), (Machine{board.Machine, board.CPU, board.Cores, board.Memory}); got != want {
		t.Errorf("Virt64() = %+v, qemu.toml says %+v", got, want)
	}
}
