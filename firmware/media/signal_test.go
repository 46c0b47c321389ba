package media

import (
	"math"
	"math/rand/v2"
	"testing"
)

// speech is n seconds of a voice-like signal: a gliding pitch with harmonics up
// to 3 kHz in syllables, different for each seed.
func speech(seed uint64, n int) []int16 {
	r := rand.New(rand.NewPCG(seed, 99))
	out := make([]int16, n*deviceRate)
	phase := 0.0
	var pitch, glide, loud float64
	for i := range out {
		if i%(deviceRate/5) == 0 { // a syllable
			pitch, glide, loud = 100+150*r.Float64(), 40*r.Float64()-20, 1500+1500*r.Float64()
		}
		at := float64(i%(deviceRate/5)) / (deviceRate / 5)
		phase += 2 * math.Pi * (pitch + glide*at) / deviceRate
		v := 0.0
		for h := 3.0; h*pitch < 3000 && h < 20; h++ {
			v += math.Sin(h*phase+h*h) / math.Sqrt(h)
		}
		out[i] = int16(loud * math.Sin(math.Pi*at) * v)
	}
	return out
}

func loudest(pcm []int16) int {
	top := 0
	for _, v := range pcm {
		top = max(top, int(v), -int(v))
	}
	return top
}

func correlation(a, b []int16) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab += x * y
		aa += x * x
		bb += y * y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

// similar is the part of the 200 ms windows of said, of those that were played
// in full, that heard contains at one common delay (within 3 frames, since the
// delay may adapt).
func similar(said, heard []int16) float64 {
	const win = deviceRate / 5
	lag := bestLag(said, heard)
	good, all := 0, 0
	for at := 0; at+win <= len(said) && at+win+lag+960 <= len(heard); at += win {
		all++
		for d := -960; d <= 960; d += 320 {
			if from := at + lag + d; from >= 0 && correlation(said[at:at+win], heard[from:from+win]) > 0.9 {
				good++
				break
			}
		}
	}
	if all < 5 {
		return 0
	}
	return float64(good) / float64(all)
}

// bestLag finds the delay of the second syllable in 0..640 ms.
func bestLag(said, heard []int16) int {
	const at, win = deviceRate / 5, deviceRate / 5 * 2
	best, lag := 0.0, 0
	for l := 0; l < 10240 && at+win+l <= len(heard); l++ {
		if c := correlation(said[at:at+win], heard[at+l:at+l+win]); c > best {
			best, lag = c, l
		}
	}
	return lag
}

func sine(f float64) []int16 {
	out := make([]int16, frameLength*20)
	for i := range out {
		out[i] = int16(10000 * math.Sin(2*math.Pi*f*float64(i)/deviceRate))
	}
	return out
}

func rms(pcm []int16) float64 {
	s := 0.0
	for _, v := range pcm {
		s += float64(v) * float64(v)
	}
	return math.Sqrt(s / float64(len(pcm)))
}

// The half-band filter: flat in the telephone band, no alias from above it and
// no image on the way back.
func TestResamplerResponse(t *testing.T) {
	for _, c := range []struct{ freq, low, high float64 }{
		{300, 0.98, 1.02}, {1000, 0.98, 1.02}, {3000, 0.95, 1.03}, {3300, 0.85, 1.05}, {5000, 0, 0.01}, {6000, 0, 0.01}, {7500, 0, 0.01},
	} {
		n := &narrow{taps: halfBand()}
		in := sine(c.freq)
		var back []int16
		for i := 0; i < len(in); i += frameLength {
			n.decimate(in[i : i+frameLength])
			n.eight2 = n.eight
			out := make([]int16, frameLength)
			n.interpolate(out)
			back = append(back, out...)
		}
		if g := rms(back[frameLength:]) / rms(in); g < c.low || g > c.high {
			t.Errorf("gain at %v Hz = %.4f, want %v..%v", c.freq, g, c.low, c.high)
		}
	}
}
