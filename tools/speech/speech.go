package speech

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"strings"
)

// Rate is the sample rate of everything that Say returns, in hertz.
const Rate = 16000

// digits in a spoken number: long enough that no other run speaks the same, and
// for some 30 windows of speech.
const digits = 10

// Number returns a random number as separate digits, ready to be spoken.
func Number(rng *rand.Rand) string {
	spoken := make([]string, digits)
	for i := range spoken {
		spoken[i] = string(rune('0' + rng.IntN(10)))
	}
	return strings.Join(spoken, " ")
}

// Say speaks text with an espeak-ng voice ("en", "en+f3", "de", ...) and returns
// mono samples at Rate.
func Say(ctx context.Context, text, voice string) ([]int16, error) {
	if voice == "" || strings.HasPrefix(voice, "-") {
		return nil, fmt.Errorf("speak: voice %q", voice)
	}
	cmd := exec.CommandContext(ctx, "espeak-ng", "-v", voice, "-s", "140", "--stdin", "--stdout")
	cmd.Stdin = strings.NewReader(text)
	var wav, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &wav, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("speak: espeak-ng: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	pcm, rate, err := decodeWAV(wav.Bytes())
	if err != nil {
		return nil, fmt.Errorf("speak: %w", err)
	}
	if len(pcm) == 0 {
		return nil, errors.New("speak: espeak-ng said nothing")
	}
	return Resample(pcm, rate, Rate), nil
}

// lobes of the sinc on each side; 16 keep images below 16-bit noise for speech.
const lobes = 16

// Resample converts mono samples between rates (hertz, both positive) by a
// windowed sinc; what the lower rate cannot hold is filtered out.
func Resample(pcm []int16, from, to int) []int16 {
	if from == to {
		return append([]int16(nil), pcm...)
	}
	cutoff := 0.95 * math.Min(1, float64(to)/float64(from))
	reach := lobes / cutoff
	out := make([]int16, len(pcm)*to/from)
	for i := range out {
		centre := float64(i) * float64(from) / float64(to)
		sum := 0.0
		for k := max(0, int(math.Ceil(centre-reach))); k < len(pcm) && float64(k) <= centre+reach; k++ {
			x := float64(k) - centre
			sum += float64(pcm[k]) * cutoff * sinc(cutoff*x) * hann(x/reach)
		}
		out[i] = clip(sum)
	}
	return out
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// hann is the raised cosine over -1 to 1.
func hann(x float64) float64 { return 0.5 + 0.5*math.Cos(math.Pi*x) }

func clip(x float64) int16 {
	return int16(math.Round(min(math.MaxInt16, max(math.MinInt16, x))))
}
