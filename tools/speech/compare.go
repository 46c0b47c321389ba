package speech

import (
	"math"
	"sort"
	"time"
)

const (
	windowLength  = 200 * time.Millisecond
	windowGood    = 0.9                   // normalised correlation from which a window counts as heard
	passShare     = 0.95                  // of the windows
	nearSearch    = 3 * time.Millisecond  // around the tracked lag: clocks drift
	slipSearch    = 30 * time.Millisecond // where that finds nothing: one packet was added or left out
	slipLength    = 8 * time.Millisecond  // a change of lag from which it is a slip
	slipEvery     = 9 * time.Second       // two clocks 0.23 % apart slip one 20 ms packet this often
	speechFloor   = 0.1                   // of the utterance's RMS: quieter windows are pauses
	bandLimit     = 3000                  // hertz; what G.711 and G.722 both carry
	splitStep     = 20 * time.Millisecond // where in a window a slip is looked for
	clockUnit     = 10000                 // 1
	clockSpread   = 23                    // of clockUnit: QEMU's ES1370 runs at 16036 Hz instead of 16000
	minimalEnergy = 1                     // per sample: a recording of digital silence matches nothing
)

// Result says how much of an utterance a recording holds.
type Result struct {
	Windows int           // windows of the utterance with speech in them
	Good    int           // of these, found in the recording
	Score   float64       // Good / Windows; 0 without windows
	Lag     time.Duration // of the recording behind the utterance, in the median
	Slips   int           // jumps of the lag
	GainDB  float64       // level of the recording relative to the utterance
}

// Pass reports whether the recording holds the utterance: at least 95 % of the
// windows, one slip of a packet and no more than the clocks explain.
func (r Result) Pass() bool {
	return r.Windows > 0 && r.Score >= passShare && r.Slips <= r.allowedSlips()
}

// allowedSlips is one, and what two free-running clocks explain.
func (r Result) allowedSlips() int {
	return 1 + int(time.Duration(r.Windows)*windowLength/slipEvery)
}

// Compare looks for sent in heard, both mono at rate hertz. heard may be longer
// and begin earlier or later, and its clock may be clockSpread apart.
func Compare(sent, heard []int16, rate int) Result {
	h := lowPass(heard, rate)
	var best Result
	for _, spread := range []int{0, clockSpread, -clockSpread} {
		r := compare(lowPass(Resample(sent, clockUnit, clockUnit+spread), rate), h, rate)
		if spread == 0 || r.Pass() || r.Good > best.Good {
			best = r
		}
		if best.Pass() {
			break
		}
	}
	return best
}

func compare(s, h []float64, rate int) Result {
	length := samples(windowLength, rate)
	starts := speechWindows(s, length)
	r := Result{Windows: len(starts)}
	lag, found := coarseLag(s, h, starts, length, rate)
	if !found {
		return r
	}
	var lags, gains []float64
	for _, start := range starts {
		window := s[start : start+length]
		at, correlation, gain := bestMatch(window, h, start+lag, rate)
		if correlation < windowGood && r.Slips < r.allowedSlips() {
			at, correlation, gain = splitMatch(window, h, start+lag, rate)
		}
		if correlation < windowGood {
			continue
		}
		jump := max(at-start-lag, lag-(at-start))
		if r.Good > 0 && jump > samples(slipLength, rate) {
			r.Slips++
		}
		lag = at - start
		r.Good++
		lags, gains = append(lags, float64(lag)), append(gains, gain)
	}
	if r.Good == 0 {
		return r
	}
	r.Score = float64(r.Good) / float64(r.Windows)
	r.Lag = time.Duration(median(lags) * float64(time.Second) / float64(rate))
	r.GainDB = 20 * math.Log10(median(gains))
	return r
}

func samples(d time.Duration, rate int) int { return int(d * time.Duration(rate) / time.Second) }

func median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
}

// speechWindows returns where the windows begin that hold speech.
func speechWindows(s []float64, length int) []int {
	floor := energy(s) / float64(max(1, len(s))) * speechFloor * speechFloor * float64(length)
	var starts []int
	for start := 0; start+length <= len(s); start += length {
		if e := energy(s[start : start+length]); e > floor && e > minimalEnergy*float64(length) {
			starts = append(starts, start)
		}
	}
	return starts
}

// bestMatch looks for window in h around the expected position: near it first,
// so that a voiced sound does not lock on to its neighbouring pitch period.
func bestMatch(window, h []float64, expected, rate int) (at int, correlation, gain float64) {
	own := energy(window)
	for _, reach := range []time.Duration{nearSearch, slipSearch} {
		at, correlation, gain = expected, -1, 0
		for offset := -samples(reach, rate); offset <= samples(reach, rate); offset++ {
			c, g := products(window, h, expected+offset).correlation(own, len(window))
			if c > correlation {
				at, correlation, gain = expected+offset, c, g
			}
		}
		if correlation >= windowGood {
			break
		}
	}
	return at, correlation, gain
}

// splitMatch looks for a window within which one packet slipped: its first part
// is where it was expected, its second part is not. The position returned is
// that which the second part implies.
func splitMatch(window, h []float64, expected, rate int) (at int, correlation, gain float64) {
	at, correlation = expected, -1
	own, reach, step := energy(window), samples(slipSearch, rate), samples(splitStep, rate)
	var heads []sums // of the first step, the first two steps, ...
	for split := step; split < len(window); split += step {
		heads = append(heads, products(window[:split], h, expected))
	}
	for offset := -reach; offset <= reach; offset++ {
		tail, end := sums{}, len(window)
		for i := len(heads) - 1; i >= 0; i-- { // the tail grows towards the beginning
			split := (i + 1) * step
			tail = tail.plus(products(window[split:end], h, expected+split+offset))
			end = split
			if c, g := heads[i].plus(tail).correlation(own, len(window)); c > correlation {
				at, correlation, gain = expected+offset, c, g
			}
		}
	}
	return at, correlation, gain
}

// sums are the inner products of a window a and what was heard, b.
type sums struct{ ab, bb float64 }

// products of window with h at a position; outside h there is only silence.
func products(window, h []float64, at int) (p sums) {
	from, to := max(0, -at), min(len(window), len(h)-at)
	if from >= to {
		return p
	}
	inside := h[at+from : at+to]
	for i, a := range window[from:to] {
		b := inside[i]
		p.ab += a * b
		p.bb += b * b
	}
	return p
}

func (p sums) plus(q sums) sums { return sums{ab: p.ab + q.ab, bb: p.bb + q.bb} }

// correlation returns the normalised correlation of a window of energy own with
// what was heard, and the ratio of their levels.
func (p sums) correlation(own float64, length int) (correlation, gain float64) {
	if p.bb < minimalEnergy*float64(length) || own == 0 {
		return -1, 0
	}
	return p.ab / math.Sqrt(own*p.bb), math.Sqrt(p.bb / own)
}

func energy(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return sum
}

// lowPass keeps what every codec here carries, and takes out the constant part.
func lowPass(pcm []int16, rate int) []float64 {
	const half = 40
	cutoff := 2 * bandLimit / float64(rate)
	if cutoff >= 1 {
		cutoff = 0.99
	}
	var taps [2*half + 1]float64
	total := 0.0
	for i := range taps {
		x := float64(i - half)
		taps[i] = sinc(cutoff*x) * hann(x/(half+1))
		total += taps[i]
	}
	mean := 0.0
	for _, x := range pcm {
		mean += float64(x) / float64(len(pcm))
	}
	out := make([]float64, len(pcm))
	for i := range out {
		sum := 0.0
		for k := max(-half, -i); k <= half && i+k < len(pcm); k++ {
			sum += taps[k+half] * (float64(pcm[i+k]) - mean)
		}
		out[i] = sum / total
	}
	return out
}
