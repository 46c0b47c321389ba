package g722

import (
	"errors"
	"math"
	"testing"

	"ringfence/firmware/media/internal/vectors"
)

// codeWords reads the file that has one code word in each 16-bit word.
func codeWords(t *testing.T) []byte {
	words := vectors.PCM(t, "itu-stl-g722/codspw.cod")
	out := make([]byte, len(words))
	for i, w := range words {
		out[i] = byte(w)
	}
	return out
}

// ITU-T G.191 speech vectors, bit-exact.
func TestEncodeReference(t *testing.T) {
	in, want := vectors.PCM(t, "itu-stl-g722/inpsp.bin"), codeWords(t)
	got := make([]byte, len(want))
	if n, err := NewEncoder().Encode(got, in); err != nil || n != len(want) {
		t.Fatalf("Encode = %d, %v, want %d", n, err, len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("code word %d = %#x, want %#x", i, got[i], want[i])
		}
	}
}

func TestDecodeReference(t *testing.T) {
	code, want := codeWords(t), vectors.PCM(t, "itu-stl-g722/outsp1.bin")
	got := make([]int16, len(want))
	if n, err := NewDecoder().Decode(got, code); err != nil || n != len(want) {
		t.Fatalf("Decode = %d, %v, want %d", n, err, len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("sample %d = %d, want %d", i, got[i], want[i])
		}
	}
}

func TestShortBuffers(t *testing.T) {
	for _, c := range []struct{ dst, src int }{{159, 320}, {160, 319}} {
		if _, err := NewEncoder().Encode(make([]byte, c.dst), make([]int16, c.src)); !errors.Is(err, ErrShort) {
			t.Errorf("Encode(%d bytes, %d samples) = %v, want ErrShort", c.dst, c.src, err)
		}
	}
	if _, err := NewDecoder().Decode(make([]int16, 319), make([]byte, 160)); !errors.Is(err, ErrShort) {
		t.Errorf("Decode(319 samples) = %v, want ErrShort", err)
	}
}

func tone() []int16 {
	pcm := make([]int16, 320)
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*1000*float64(i)/SampleRate))
	}
	return pcm
}

func TestNoAllocation(t *testing.T) {
	e, d, pcm, code := NewEncoder(), NewDecoder(), tone(), make([]byte, 160)
	if n := testing.AllocsPerRun(100, func() { _, _ = e.Encode(code, pcm); _, _ = d.Decode(pcm, code) }); n != 0 {
		t.Errorf("%v allocations per frame, want 0", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	e, pcm, code := NewEncoder(), tone(), make([]byte, 160)
	for b.Loop() {
		_, _ = e.Encode(code, pcm)
	}
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	d, pcm, code := NewDecoder(), tone(), make([]byte, 160)
	for b.Loop() {
		_, _ = d.Decode(pcm, code)
	}
}
