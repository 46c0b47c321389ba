package slot_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ringfence/hal/slot"
	"ringfence/hal/slot/slottest"
)

const (
	diskSize = 34 << 20
	capacity = 128 << 10
)

func image(seed uint64, size int) []byte {
	out := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

// flashed is a phone with img in slot A that has booted.
func flashed(t *testing.T, img []byte) (*slottest.Machine, *slot.Slots) {
	t.Helper()
	m, err := slottest.NewMachine(diskSize, capacity)
	if err != nil {
		t.Fatal(err)
	}
	if err := slot.Place(m.Disk(), slot.A, img); err != nil {
		t.Fatal(err)
	}
	return m, boot(t, m, slot.A, img)
}

func boot(t *testing.T, m *slottest.Machine, want slot.ID, images ...[]byte) *slot.Slots {
	t.Helper()
	got, _, err := m.Start(signed(images...))
	if err != nil || got != want {
		t.Fatalf("Start() = %v, %v, want slot %v", got, err, want)
	}
	s, err := slot.New(m.Disk(), m.Variables())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signed(images ...[]byte) func([32]byte) bool {
	return func(d [32]byte) bool {
		for _, i := range images {
			if sha256.Sum256(i) == d {
				return true
			}
		}
		return false
	}
}

func TestTryOnceAndCommit(t *testing.T) {
	one, two := image(1, 70001), image(2, 91234)
	m, s := flashed(t, one)
	if err := s.TryOnce(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("TryOnce(empty slot) = %v, want fs.ErrNotExist", err)
	}
	if err := s.Write(bytes.NewReader(two), int64(len(two)), sha256.Sum256(two)); err != nil {
		t.Fatal(err)
	}
	if err := s.TryOnce(); err != nil {
		t.Fatal(err)
	}
	s = boot(t, m, slot.B, one, two)
	if err := s.Write(bytes.NewReader(one), int64(len(one)), sha256.Sum256(one)); !errors.Is(err, slot.ErrTrial) {
		t.Errorf("Write during a trial = %v, want ErrTrial", err)
	}
	boot(t, m, slot.A, one, two) // not committed: the way back
	if err := boot(t, m, slot.A, one, two).TryOnce(); err != nil {
		t.Fatal(err)
	}
	if err := boot(t, m, slot.B, one, two).Commit(); err != nil {
		t.Fatal(err)
	}
	s = boot(t, m, slot.B, one, two)
	if order, err := m.Variables().Get("BootOrder"); err != nil || !bytes.Equal(order, []byte{0xb0, 0, 0xa0, 0, 1, 0}) {
		t.Errorf("BootOrder = % x, %v, want b0 a0 and the firmware's own entry", order, err)
	}
	if sum, n, err := s.Digest(slot.A); err != nil || sum != sha256.Sum256(one) || n != int64(len(one)) {
		t.Errorf("Digest(a) = %x, %d, %v: the former image must stay", sum, n, err)
	}
}

// TestFallsBack: a committed image that rots is left for the other one, which
// is preferred from then on and is not on trial.
func TestFallsBack(t *testing.T) {
	one, two := image(1, 3000), image(2, 4000)
	m, s := flashed(t, one)
	if err := s.Write(bytes.NewReader(two), int64(len(two)), sha256.Sum256(two)); err != nil {
		t.Fatal(err)
	}
	if err := s.TryOnce(); err != nil {
		t.Fatal(err)
	}
	s = boot(t, m, slot.B, one, two)
	if trial, err := s.Trial(); err != nil || !trial {
		t.Errorf("Trial() = %v, %v after TryOnce", trial, err)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	s = boot(t, m, slot.A, one) // two is no longer what was signed
	trial, err := s.Trial()
	fell, err2 := s.FellBack()
	if trial || !fell || err != nil || err2 != nil {
		t.Errorf("Trial() = %v, %v, FellBack() = %v, %v, want false and true", trial, err, fell, err2)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	s = boot(t, m, slot.A, one)
	if fell, err := s.FellBack(); fell || err != nil {
		t.Errorf("FellBack() = %v, %v after Commit", fell, err)
	}
	if err := move(m, one, two); err != nil {
		t.Errorf("repairing the slot: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	one, two := image(1, 5000), image(2, 6000)
	for _, tt := range []struct {
		name  string
		data  []byte
		size  int64
		other bool
	}{
		{"digest of another image", two, int64(len(two)), true},
		{"truncated", two[:5999], int64(len(two)), false},
		{"empty", nil, 0, false},
		{"larger than a slot", image(3, capacity+1), capacity + 1, false},
	} {
		m, s := flashed(t, one)
		digest := sha256.Sum256(tt.data)
		if tt.other {
			digest = sha256.Sum256(one)
		}
		if err := s.Write(bytes.NewReader(tt.data), tt.size, digest); err == nil {
			t.Errorf("%s: Write succeeded, want an error", tt.name)
		}
		if err := s.TryOnce(); err == nil {
			t.Errorf("%s: TryOnce succeeded, want an error", tt.name)
		}
		boot(t, m, slot.A, one, two)
	}
}

// TestPowerCuts cuts the power at every write of a life of updates between the
// slots. After each cut the old or the new image boots, whole.
func TestPowerCuts(t *testing.T) {
	images := [][]byte{image(1, 40000), image(2, 65536), image(3, 9999), image(4, 52000)}
	m, _ := flashed(t, images[0])
	total := 0
	for n := 1; n < len(images); n++ {
		start := m.Fork()
		work := start.Fork()
		work.Record()
		if err := move(work, images[n-1], images[n]); err != nil {
			t.Fatal(err)
		}
		cuts, err := work.Cuts(start, 9, uint64(n), func(_ int, after *slottest.Machine) error {
			_, _, err := after.Start(signed(images[n-1], images[n]))
			if err != nil {
				return err
			}
			s, err := slot.New(after.Disk(), after.Variables())
			if err != nil {
				return err
			}
			if err := s.Commit(); err != nil {
				return err
			}
			return move(after.Fork(), images[n-1], images[n])
		})
		if err != nil {
			t.Fatalf("update %d: %v", n, err)
		}
		total += cuts
		m = work
	}
	t.Logf("%d power cuts, 0 bricks", total)
	if total < 2000 {
		t.Errorf("%d power cuts, want at least 2000", total)
	}
}

// move takes m from whichever of the two images it boots to an idle slot with
// next, tries it and commits it.
func move(m *slottest.Machine, now, next []byte) error {
	for step := range 2 {
		_, digest, err := m.Start(signed(now, next))
		if err != nil {
			return err
		}
		s, err := slot.New(m.Disk(), m.Variables())
		if err != nil {
			return err
		}
		if step == 1 {
			if digest != sha256.Sum256(next) {
				return fmt.Errorf("tried %x, the new image did not start", digest)
			}
			return s.Commit()
		}
		if err := s.Write(bytes.NewReader(next), int64(len(next)), sha256.Sum256(next)); err != nil {
			return err
		}
		if err := s.TryOnce(); err != nil {
			return err
		}
	}
	return nil
}

func TestNewRefusesOtherLayouts(t *testing.T) {
	base, _ := flashed(t, image(1, 3000))
	for _, tt := range []struct {
		name string
		at   int64
		data byte
	}{
		{"no boot signature", 510, 0},
		{"clusters of no sectors", 13, 0},
		{"no FAT32", 86, '1'},
		{"slot in two runs", 32*512 + 4*10, 99},
		{"directory missing", (32+2*firstTable(base))*512 + 32, 'X'},
	} {
		m := base.Fork()
		raw := make([]byte, 512)
		if _, err := m.Disk().ReadAt(raw, tt.at/512*512); err != nil {
			t.Fatal(err)
		}
		raw[tt.at%512] = tt.data
		if _, err := m.Disk().WriteAt(raw, tt.at/512*512); err != nil {
			t.Fatal(err)
		}
		if _, err := slot.New(m.Disk(), m.Variables()); !errors.Is(err, slot.ErrLayout) {
			t.Errorf("%s: New = %v, want ErrLayout", tt.name, err)
		}
	}
}

func firstTable(m *slottest.Machine) int64 {
	raw := make([]byte, 512)
	_, _ = m.Disk().ReadAt(raw, 0) // a formatted machine always reads
	return int64(raw[36]) | int64(raw[37])<<8
}

// TestFormatIsFAT32 shows the volume to the system's own tool.
func TestFormatIsFAT32(t *testing.T) {
	mtype, err := exec.LookPath("mtype")
	if err != nil {
		if os.Getenv("RINGFENCE_REQUIRE") != "" {
			t.Fatal("mtools is not installed: run scripts/setup")
		}
		t.Skip("SKIPPED: needs mtools")
	}
	m, _ := flashed(t, []byte("an image"))
	raw := make([]byte, diskSize)
	if _, err := m.Disk().ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "esp")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(mtype, "-i", path, "::/EFI/phone/a.efi").CombinedOutput()
	if err != nil || string(out) != "an image" {
		t.Errorf("mtype = %q, %v, want the image", out, err)
	}
}
