package jitter

import (
	"errors"
	"math"
	"testing"
)

func buffer(t testing.TB, initial int) *Buffer {
	t.Helper()
	b, err := New(Config{FrameTicks: 160, FrameBytes: 4, Initial: initial})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func frame(n int) []byte { return []byte{byte(n), 1, 2, 3} }

// run plays a script: each step pushes frames and pops one. Want is the frame
// number, -1 = lost, -2 = idle.
func run(t *testing.T, b *Buffer, push [][]int, want []int) {
	t.Helper()
	for i, w := range want {
		if i < len(push) {
			for _, n := range push[i] {
				b.Push(uint32(1000+160*n), frame(n))
			}
		}
		f, kind := b.Pop()
		got := map[Kind]int{Idle: -2, Lost: -1}[kind]
		if kind == Frame {
			got = int(f[0])
		}
		if got != w {
			t.Errorf("pop %d = %d, want %d (stats %+v)", i, got, w, b.Stats())
		}
	}
}

func TestBuffer(t *testing.T) {
	for _, c := range []struct {
		name    string
		initial int
		push    [][]int
		want    []int
	}{
		{"in order", 1, [][]int{{0}, {1}, {2}}, []int{0, 1, 2}},
		{"waits first", 3, [][]int{{0}, {1}, {2}, {3}}, []int{-2, -2, 0, 1, 2}},
		{"reordered", 3, [][]int{{1, 0, 2}, {4}, {3}}, []int{0, 1, 2, 3, 4}},
		{"lost with a later one there", 1, [][]int{{0, 2}, {3}}, []int{0, -1, 2, 3}},
		{"late frame stretches", 1, [][]int{{0}, {}, {1, 2}}, []int{0, -1, 1, 2}},
		{"lost frame does not stretch", 1, [][]int{{0}, {}, {2}, {3}}, []int{0, -1, 2, 3}},
		{"duplicate", 2, [][]int{{0, 0, 1}, {1}}, []int{0, 1, -1}},
		{"too late", 1, [][]int{{0, 2}, {}, {1}}, []int{0, -1, 2, -1}},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, buffer(t, c.initial), c.push, c.want) })
	}
}

func TestTimestampJumpStartsOver(t *testing.T) {
	b := buffer(t, 1)
	for i, ts := range []uint32{160, 320, 500, 4_000_000_000, 100, 260} { // misaligned, far, wrapped
		b.Push(ts, frame(i))
		if f, kind := b.Pop(); kind != Frame || f[0] != byte(i) {
			t.Errorf("pop %d = %v, %v", i, f, kind)
		}
	}
	if b.Stats().Restarts != 3 {
		t.Errorf("restarts = %d, want 3", b.Stats().Restarts)
	}
}

func TestPacketOfTwoFramesAndOddSizes(t *testing.T) {
	b := buffer(t, 2)
	b.Push(0, append(frame(7), frame(8)...))
	for _, n := range []int{0, 3, 5, 4 * (maxPacket + 1)} {
		b.Push(320, make([]byte, n))
	}
	for _, want := range []byte{7, 8} {
		if f, kind := b.Pop(); kind != Frame || f[0] != want {
			t.Errorf("Pop = %v, %v, want frame %d", f, kind, want)
		}
	}
	if b.Stats().Refused != 4 {
		t.Errorf("refused = %d, want 4", b.Stats().Refused)
	}
}

func TestPauseBuffersAgain(t *testing.T) {
	b := buffer(t, 2)
	run(t, b, [][]int{{0, 1}}, []int{0, 1})
	for range dryLimit {
		b.Pop()
	}
	run(t, b, [][]int{nil, {22}, {23}}, []int{-2, -2, 22, 23})
}

func TestDelayShrinksWhenNotNeeded(t *testing.T) {
	b := buffer(t, 5)
	n, shrunk := 0, 0
	for range 2000 {
		b.Push(uint32(160*n), frame(n))
		n++
		b.Pop()
		if b.Surplus() {
			b.Pop()
			b.Shrunk()
			shrunk++
		}
	}
	if b.Depth() > 2 || shrunk == 0 || b.Stats().Missing != 0 {
		t.Errorf("depth %d after %d shrinks, %d missing, want <= 2, some, 0", b.Depth(), shrunk, b.Stats().Missing)
	}
}

func TestConfigRefused(t *testing.T) {
	for _, c := range []Config{{}, {160, 0, 1}, {160, 2000, 1}, {0, 160, 1}, {160, 160, 17}, {160, 160, -1}} {
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("New(%+v) = %v, want ErrConfig", c, err)
		}
	}
	if _, err := NewConcealer(0); !errors.Is(err, ErrConfig) {
		t.Errorf("NewConcealer(0) = %v, want ErrConfig", err)
	}
}

// A gap in a tone is filled with the same tone and fades to silence.
func TestConcealTone(t *testing.T) {
	c, err := NewConcealer(16000)
	if err != nil {
		t.Fatal(err)
	}
	tone := func(at int) []int16 {
		pcm := make([]int16, 320)
		for i := range pcm {
			pcm[i] = int16(10000 * math.Sin(2*math.Pi*200*float64(at*320+i)/16000))
		}
		return pcm
	}
	for i := range 5 {
		c.Good(tone(i))
	}
	got, want := make([]int16, 320), tone(5)
	c.Conceal(got)
	for i := range 160 { // at full gain
		if d := int(got[i]) - int(want[i]); d > 300 || d < -300 {
			t.Fatalf("sample %d = %d, want about %d", i, got[i], want[i])
		}
	}
	c.Conceal(got)
	c.Conceal(got)
	c.Conceal(got)
	for i, v := range got {
		if v != 0 {
			t.Fatalf("sample %d after 60 ms = %d, want silence", i, v)
		}
	}
	back := tone(9)
	c.Good(back)
	if back[0] != 0 || back[200] != tone(9)[200] {
		t.Errorf("after the gap: %d, %d, want 0, %d", back[0], back[200], tone(9)[200])
	}
}

func TestNoAllocation(t *testing.T) {
	b, f, n := buffer(t, 1), frame(0), uint32(0)
	c, _ := NewConcealer(16000)
	pcm := make([]int16, 320)
	if a := testing.AllocsPerRun(500, func() {
		n += 160
		b.Push(n, f)
		b.Pop()
		c.Good(pcm)
		c.Conceal(pcm)
	}); a != 0 {
		t.Errorf("%v allocations per frame, want 0", a)
	}
}

// Whatever arrives, Pop neither panics nor gives a frame of another size, and
// the buffer stays bounded.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 2, 0, 9, 0, 255, 255, 0, 128})
	f.Fuzz(func(t *testing.T, in []byte) {
		b := buffer(t, 2)
		for i := 0; i+1 < len(in); i += 2 {
			b.Push(uint32(in[i])*160+uint32(in[i+1])<<24, make([]byte, 4*(1+int(in[i]&3))))
			if fr, kind := b.Pop(); kind == Frame && len(fr) != 4 || b.Depth() > slots {
				t.Fatalf("frame of %d bytes, depth %d", len(fr), b.Depth())
			}
		}
	})
}

func BenchmarkPushPop(b *testing.B) {
	b.ReportAllocs()
	buf, err := New(Config{FrameTicks: 160, FrameBytes: 160})
	if err != nil {
		b.Fatal(err)
	}
	f, n := make([]byte, 160), uint32(0)
	for b.Loop() {
		n += 160
		buf.Push(n, f)
		buf.Pop()
	}
}

func BenchmarkConceal(b *testing.B) {
	b.ReportAllocs()
	c, err := NewConcealer(16000)
	if err != nil {
		b.Fatal(err)
	}
	pcm := make([]int16, 320)
	for i := range pcm {
		pcm[i] = int16(5000 * math.Sin(float64(i)/12))
	}
	for b.Loop() {
		c.Good(pcm)
		c.Conceal(pcm)
	}
}
