package audiotest

import (
	"errors"
	"testing"

	"ringfence/hal/audio"
)

var format = audio.Format{Rate: 16000, Channels: 1, PeriodFrames: 320, Periods: 8}

func TestCaptureScript(t *testing.T) {
	said := make([]int16, 320*5)
	for i := range said {
		said[i] = int16(i/320 + 1)
	}
	c, err := NewCapture(format, said, nil, Script{1: Xrun, 3: Short, 6: Unplug})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		first int16
		err   error
	}{{1, nil}, {0, audio.ErrXrun}, {3, nil}, {0, audio.ErrShort}, {5, nil}, {0, nil}, {0, audio.ErrUnplugged}, {0, audio.ErrUnplugged}}
	for i, w := range want {
		pcm := make([]int16, 320)
		if err := c.Read(pcm); !errors.Is(err, w.err) || pcm[0] != w.first {
			t.Errorf("Read %d = %d, %v, want %d, %v", i, pcm[0], err, w.first, w.err)
		}
	}
	if s := c.Stats(); s.Xruns != 1 || s.Periods != 4 {
		t.Errorf("Stats = %+v, want 1 xrun and 4 periods", s)
	}
	if err := c.Read(make([]int16, 319)); !errors.Is(err, audio.ErrShort) {
		t.Errorf("Read(319 samples) = %v, want ErrShort", err)
	}
	if err := errors.Join(c.Close(), c.Close()); !errors.Is(err, audio.ErrClosed) {
		t.Errorf("second Close = %v, want ErrClosed", err)
	}
}

func TestPlaybackRemembers(t *testing.T) {
	p, err := NewPlayback(format, 500, Script{1: Xrun})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		pcm := make([]int16, 320)
		pcm[0] = int16(i + 1)
		if err := p.Write(pcm); (i == 1) != errors.Is(err, audio.ErrXrun) {
			t.Errorf("Write %d = %v", i, err)
		}
	}
	h := p.Heard()
	if len(h) != 500 || h[0] != 1 || h[320] != 3 {
		t.Errorf("Heard = %d samples starting %d, %d, want 500, 1, 3", len(h), h[0], h[320])
	}
}
