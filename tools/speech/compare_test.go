package speech

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"ringfence/tools/tooltest"
)

// say speaks a random number, followed by another one that a swap can use.
func say(t *testing.T, rng *rand.Rand) []int16 {
	t.Helper()
	tooltest.Need(t, "espeak-ng")
	pcm, err := Say(t.Context(), "The number is "+Number(rng), "en")
	if err != nil {
		t.Fatal(err)
	}
	return pcm
}

func delayed(pcm []int16, by int) []int16 {
	return append(append(make([]int16, by), pcm...), make([]int16, 4000)...)
}

func bandLimited(pcm []int16) []int16 { // G.722 carries 50 to 7000 Hz
	return Resample(Resample(pcm, Rate, 14000), 14000, Rate)
}

// companded passes each sample through the A-law curve (ITU-T G.711) with 8 bits.
func companded(pcm []int16) []int16 {
	const a = 87.6
	narrow := Resample(pcm, Rate, 8000)
	for i, s := range narrow {
		x := math.Abs(float64(s)) / 32768
		y := (1 + math.Log(math.Max(a*x, 1))) / (1 + math.Log(a))
		if x < 1/a {
			y = a * x / (1 + math.Log(a))
		}
		y = math.Round(y*127) / 127
		z := math.Exp(y*(1+math.Log(a))-1) / a
		if y < 1/(1+math.Log(a)) {
			z = y * (1 + math.Log(a)) / a
		}
		narrow[i] = clip(math.Copysign(z*32767, float64(s)))
	}
	return Resample(narrow, 8000, Rate)
}

// lossy replaces a share of the 20 ms frames by the last good one, fading.
func lossy(pcm []int16, share float64, rng *rand.Rand) []int16 {
	const frame = Rate / 50
	out := append([]int16(nil), pcm...)
	fade := 1.0
	for at := frame; at+frame <= len(out); at += frame {
		if rng.Float64() >= share {
			fade = 1
			continue
		}
		fade *= 0.8
		for i := range frame {
			out[at+i] = int16(float64(out[at+i-frame]) * 0.8)
		}
	}
	return out
}

// slipped leaves one 20 ms packet out, where there is speech.
func slipped(pcm []int16) []int16 {
	at := len(pcm) / 2
	return append(append([]int16(nil), pcm[:at]...), pcm[at+Rate/50:]...)
}

func TestCompare(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	sent, other := say(t, rng), say(t, rng)
	quiet := make([]int16, len(sent))
	for i, s := range sent {
		quiet[i] = s / 4
	}
	for _, test := range []struct {
		name  string
		heard []int16
		want  bool
	}{
		{"identical", sent, true},
		{"delayed by 1.3 s", delayed(sent, 20800), true},
		{"recording begins late, in the leading silence", sent[100:], true},
		{"quieter by 12 dB", quiet, true},
		{"band of G.722", delayed(bandLimited(sent), 3000), true},
		{"G.711 A-law", delayed(companded(sent), 3000), true},
		{"after another utterance", append(append([]int16(nil), other...), sent...), true},
		{"one packet slipped", delayed(slipped(sent), 3000), true},
		{"clock 0.23 % fast", Resample(sent, 10000, 10023), true},
		{"end cut off", sent[:len(sent)*7/10], false},
		{"beginning cut off", sent[len(sent)*3/10:], false},
		{"middle silenced", append(append(append([]int16(nil), sent[:len(sent)/3]...), make([]int16, Rate)...), sent[len(sent)/3+Rate:]...), false},
		{"another number", other, false},
		{"30 % loss with concealment", lossy(sent, 0.3, rng), false},
		{"silence", make([]int16, len(sent)), false},
		{"nothing", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			got := Compare(sent, test.heard, Rate)
			t.Logf("%+v in %v", got, time.Since(began).Round(time.Millisecond))
			if got.Pass() != test.want {
				t.Errorf("Compare(sent, %s).Pass() = %v, want %v", test.name, got.Pass(), test.want)
			}
		})
	}
}

// Whatever is spoken, loss and a swap must fail and the codecs must pass.
func TestCompareManyNumbers(t *testing.T) {
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 77))
		sent, other := say(t, rng), say(t, rng)
		for name, test := range map[string]struct {
			heard []int16
			want  bool
		}{
			"companded": {companded(sent), true},
			"slipped":   {slipped(sent), true},
			"swapped":   {other, false},
			"loss":      {lossy(sent, 0.3, rng), false},
		} {
			if got := Compare(sent, test.heard, Rate); got.Pass() != test.want {
				t.Errorf("seed %d: Compare(sent, %s) = %+v, want pass = %v", seed, name, got, test.want)
			}
		}
	}
}

func TestCompareReportsLagAndGain(t *testing.T) {
	sent := say(t, rand.New(rand.NewPCG(3, 4)))
	heard := delayed(sent, 1600)
	for i := range heard {
		heard[i] /= 2
	}
	got := Compare(sent, heard, Rate)
	if got.Lag != 100*time.Millisecond || math.Abs(got.GainDB+6.02) > 0.1 || got.Slips != 0 {
		t.Errorf("Compare = lag %v, gain %.2f dB, %d slips; want 100ms, -6.02 dB, 0", got.Lag, got.GainDB, got.Slips)
	}
}

func TestWAVRoundTrip(t *testing.T) {
	path := t.TempDir() + "/a.wav"
	want := []int16{0, 1, -1, 32767, -32768}
	if err := WriteWAV(path, want, 48000); err != nil {
		t.Fatal(err)
	}
	got, rate, err := ReadWAV(path)
	if err != nil || rate != 48000 || len(got) != len(want) {
		t.Fatalf("ReadWAV = %v, %d, %v", got, rate, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("sample %d = %d, want %d", i, got[i], want[i])
		}
	}
	for name, raw := range map[string][]byte{"empty": nil, "text": []byte("hello, this is no sound"), "no data": []byte("RIFF\x04\x00\x00\x00WAVE")} {
		if _, _, err := decodeWAV(raw); err == nil {
			t.Errorf("decodeWAV(%s) = nil error", name)
		}
	}
}

func TestNumberIsRandom(t *testing.T) {
	a, b := Number(rand.New(rand.NewPCG(1, 1))), Number(rand.New(rand.NewPCG(1, 2)))
	if a == b || len(a) != 2*digits-1 {
		t.Errorf("Number = %q and %q", a, b)
	}
}
