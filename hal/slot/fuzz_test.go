package slot_test

import (
	"testing"

	"ringfence/hal/slot"
	"ringfence/hal/slot/slottest"
)

// FuzzNew damages one sector of the volume's metadata: New refuses it or
// reads slots inside of the disk.
func FuzzNew(f *testing.F) {
	base, err := slottest.NewMachine(diskSize, capacity)
	if err != nil {
		f.Fatal(err)
	}
	for _, at := range []uint16{0, 32, 33, 1100} {
		raw := make([]byte, 512)
		if _, err := base.Disk().ReadAt(raw, int64(at)*512); err != nil {
			f.Fatal(err)
		}
		f.Add(at, raw)
	}
	f.Fuzz(func(t *testing.T, at uint16, data []byte) {
		m := base.Fork()
		block := make([]byte, 512)
		copy(block, data)
		if _, err := m.Disk().WriteAt(block, int64(at)*512); err != nil {
			t.Skip() // outside of the disk
		}
		s, err := slot.New(m.Disk(), m.Variables())
		if err != nil {
			return
		}
		if s.Capacity() <= 0 || s.Capacity() > diskSize {
			t.Errorf("slots of %d bytes on a disk of %d", s.Capacity(), diskSize)
		}
		_, _, _ = s.Digest(slot.A) // an error or a digest, no panic
	})
}
