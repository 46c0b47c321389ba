package g711

import (
	"errors"
	"testing"

	oracle "github.com/zaf/g711"

	"ringfence/firmware/media/internal/vectors"
)

// law is one of the two companding laws, for the table tests.
type law struct {
	name   string
	encode func([]byte, []int16) (int, error)
	decode func([]int16, []byte) (int, error)
	code   string
	pcm    string
	oracle func(byte) int16
}

func laws() []law {
	return []law{
		{"A", EncodeA, DecodeA, "itu-stl-g711/sweep-r.a", "itu-stl-g711/sweep-r.rea", oracle.DecodeAlawFrame},
		{"u", EncodeU, DecodeU, "itu-stl-g711/sweep-r.u", "itu-stl-g711/sweep-r.reu", oracle.DecodeUlawFrame},
	}
}

// ITU-T G.191 sweep over all 65536 inputs, bit-exact.
func TestReference(t *testing.T) {
	for _, l := range laws() {
		t.Run(l.name, func(t *testing.T) {
			in, want, pcm := vectors.PCM(t, "itu-stl-g711/sweep.src"), vectors.PCM(t, l.code), vectors.PCM(t, l.pcm)
			code, out := make([]byte, len(in)), make([]int16, len(in))
			if _, err := l.encode(code, in); err != nil {
				t.Fatal(err)
			}
			if _, err := l.decode(out, code); err != nil {
				t.Fatal(err)
			}
			for i := range in {
				if code[i] != byte(want[i]) || out[i] != pcm[i] {
					t.Fatalf("%d: code %#x, PCM %d, want %#x, %d", in[i], code[i], out[i], byte(want[i]), pcm[i])
				}
			}
		})
	}
}

// The decoder agrees with another implementation for all 256 codes.
func TestDecodeOracle(t *testing.T) {
	for _, l := range laws() {
		for c := range 256 {
			var out [1]int16
			if _, err := l.decode(out[:], []byte{byte(c)}); err != nil || out[0] != l.oracle(byte(c)) {
				t.Errorf("%s: decode(%#x) = %d, %v, want %d", l.name, c, out[0], err, l.oracle(byte(c)))
			}
		}
	}
}

// Encoding is stable: code -> PCM -> the same code.
func TestRoundTrip(t *testing.T) {
	for _, l := range laws() {
		for c := range 256 {
			var pcm [1]int16
			var code [1]byte
			_, _ = l.decode(pcm[:], []byte{byte(c)})
			_, _ = l.encode(code[:], pcm[:])
			want := byte(c)
			if l.name == "u" && want == 0x7f {
				want = 0xff // minus zero
			}
			if code[0] != want {
				t.Errorf("%s: encode(decode(%#x)) = %#x", l.name, want, code[0])
			}
		}
	}
}

func TestShortBuffers(t *testing.T) {
	for _, l := range laws() {
		if _, err := l.encode(make([]byte, 1), make([]int16, 2)); !errors.Is(err, ErrShort) {
			t.Errorf("%s: encode = %v, want ErrShort", l.name, err)
		}
		if _, err := l.decode(make([]int16, 1), make([]byte, 2)); !errors.Is(err, ErrShort) {
			t.Errorf("%s: decode = %v, want ErrShort", l.name, err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	pcm, code := make([]int16, 160), make([]byte, 160)
	for i := range pcm {
		pcm[i] = int16(i * 200)
	}
	for _, l := range laws() {
		b.Run(l.name, func(b *testing.B) {
			for b.Loop() {
				_, _ = l.encode(code, pcm)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	pcm, code := make([]int16, 160), make([]byte, 160)
	for i := range code {
		code[i] = byte(i)
	}
	for _, l := range laws() {
		b.Run(l.name, func(b *testing.B) {
			for b.Loop() {
				_, _ = l.decode(pcm, code)
			}
		})
	}
}
