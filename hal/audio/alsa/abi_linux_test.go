package alsa

import (
	"errors"
	"os"
	"testing"
	"unsafe"

	"ringfence/hal/audio"
)

// Sizes from a C compiler with asound.h; the ioctl numbers contain them.
func TestStructureSizes(t *testing.T) {
	long := int(longSize)
	for _, c := range []struct {
		name   string
		got    uintptr
		w64, w uintptr
	}{
		{"snd_pcm_hw_params", unsafe.Sizeof(hwParams{}), 608, 604},
		{"snd_pcm_sw_params", unsafe.Sizeof(swParams{}), 136, 104},
		{"snd_pcm_sync_ptr", unsafe.Sizeof(syncPtr{}), 136, 132},
	} {
		want := c.w
		if long == 8 {
			want = c.w64
		}
		if c.got != want {
			t.Errorf("sizeof %s = %d, want %d", c.name, c.got, want)
		}
	}
	if got := ioc(iocRead|iocWrite, nrHwParams, 608); got != 0xc2604111 {
		t.Errorf("HW_PARAMS = %#x, want 0xc2604111", got)
	}
}

func TestPointersWrapAtTheBoundary(t *testing.T) {
	p := &pcm{boundary: 1 << 20, size: 2560, appl: 1<<20 - 320}
	p.advance(320)
	if p.appl != 0 {
		t.Errorf("appl = %d, want 0", p.appl)
	}
	if d := p.distance(100, 1<<20-220); d != 320 {
		t.Errorf("distance = %d, want 320", d)
	}
}

func TestOpenRefusesWhatIsNoPCM(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCapture(f, audio.Wideband()); err == nil {
		t.Error("OpenCapture(/dev/null) gave no error")
	}
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Close after OpenCapture = %v, want already closed", err)
	}
	if _, err := OpenPlayback(nil, audio.Wideband()); !errors.Is(err, audio.ErrUnplugged) {
		t.Errorf("OpenPlayback(nil) = %v, want ErrUnplugged", err)
	}
}
