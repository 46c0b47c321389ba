package media

import "math"

// halfTaps is the number of different non-zero coefficients beside the centre
// of the half-band filter: 47 taps, 3.4 kHz flat, -50 dB from 4.6 kHz on.
const halfTaps = 12

// halfBand designs the filter: a sinc at a quarter of the rate under a Hamming
// window, in 1/32768. Coefficient k stands at the odd distance 2k+1 from the
// centre; those at even distances are zero and the centre is one half.
func halfBand() [halfTaps]int32 {
	var h [halfTaps]int32
	const reach = 2*halfTaps - 1
	for k := range h {
		n := float64(2*k + 1)
		w := 0.54 + 0.46*math.Cos(math.Pi*n/(reach+1))
		h[k] = int32(math.Round(32768 * 0.5 * math.Sin(math.Pi*n/2) / (math.Pi * n / 2) * w))
	}
	return h
}

// decimate filters one period of 16 kHz into n.eight; the tail of the last
// period stays in front.
func (n *narrow) decimate(pcm []int16) {
	const keep = len(n.down) - frameLength
	copy(n.down[:keep], n.down[frameLength:])
	copy(n.down[keep:], pcm)
	for i := range n.eight {
		c := 2*i + 2*halfTaps - 1 // centre
		acc := int64(n.down[c]) << 14
		for k, h := range n.taps {
			acc += int64(h) * (int64(n.down[c-2*k-1]) + int64(n.down[c+2*k+1]))
		}
		n.eight[i] = clip(int32(acc >> 15))
	}
}

// interpolate filters n.eight2 into one period of 16 kHz. With zeros between
// the samples only half of the taps meet a sample: the centre alone, or the
// others.
func (n *narrow) interpolate(dst []int16) {
	const keep = len(n.up) - frameLength/2
	copy(n.up[:keep], n.up[frameLength/2:])
	copy(n.up[keep:], n.eight2[:])
	for i := range n.eight2 {
		c := i + halfTaps - 1
		var acc int64
		for k, h := range n.taps {
			acc += int64(h) * (int64(n.up[c-k]) + int64(n.up[c+1+k]))
		}
		dst[2*i] = n.up[c]
		dst[2*i+1] = clip(int32(acc >> 14)) // gain 2 for the zeros
	}
}

func clip(v int32) int16 { return int16(max(math.MinInt16, min(math.MaxInt16, v))) }
