package speech

import (
	"math"
	"math/bits"
	"math/cmplx"
	"sort"
	"time"
)

const (
	anchors       = 7                      // loudest windows that vote for the lag
	anchorLength  = 400 * time.Millisecond // long enough to be told from other speech
	anchorsAgree  = 60 * time.Millisecond  // clocks drift and packets slip between anchors
	anchorMinimum = 0.5                    // correlation from which an anchor votes
)

// coarseLag finds by how much h is behind s: each of the loudest parts of s is
// looked for in all of h, and the largest group that agrees wins.
func coarseLag(s, h []float64, starts []int, window, rate int) (lag int, found bool) {
	length := samples(anchorLength, rate)
	if len(h) < length || len(s) < length {
		return 0, false
	}
	loudest := append([]int(nil), starts...)
	sort.Slice(loudest, func(i, j int) bool {
		return energy(s[loudest[i]:loudest[i]+window]) > energy(s[loudest[j]:loudest[j]+window])
	})
	spectrum, prefix := newSpectrum(h, length)
	var votes []int
	for _, start := range loudest[:min(anchors, len(loudest))] {
		start = min(start, len(s)-length)
		at, correlation := spectrum.find(s[start:start+length], prefix, len(h))
		if correlation >= anchorMinimum {
			votes = append(votes, at-start)
		}
	}
	return majority(votes, samples(anchorsAgree, rate))
}

// majority returns the earliest member of the largest group of votes.
func majority(votes []int, reach int) (lag int, found bool) {
	best := 0
	for _, v := range votes {
		count := 0
		for _, other := range votes {
			if other-v <= reach && v-other <= reach {
				count++
			}
		}
		if count > best {
			best, lag = count, v
		}
	}
	return lag, best > 0
}

// spectrum is a signal prepared for correlation by fast Fourier transform.
type spectrum struct{ bins []complex128 }

// newSpectrum also returns the running energy of h.
func newSpectrum(h []float64, length int) (spectrum, []float64) {
	bins := make([]complex128, 1<<bits.Len(uint(len(h)+length)))
	prefix := make([]float64, len(h)+1)
	for i, x := range h {
		bins[i] = complex(x, 0)
		prefix[i+1] = prefix[i] + x*x
	}
	transform(bins, false)
	return spectrum{bins: bins}, prefix
}

// find returns where part fits best in a signal of n samples.
func (s spectrum) find(part, prefix []float64, n int) (at int, correlation float64) {
	product := make([]complex128, len(s.bins))
	for i, x := range part {
		product[i] = complex(x, 0)
	}
	transform(product, false)
	for i := range product {
		product[i] = s.bins[i] * cmplx.Conj(product[i])
	}
	transform(product, true)
	own := energy(part)
	for i := 0; i+len(part) <= n; i++ {
		e := prefix[i+len(part)] - prefix[i]
		if e < minimalEnergy*float64(len(part)) {
			continue
		}
		if c := real(product[i]) / math.Sqrt(own*e); c > correlation {
			at, correlation = i, c
		}
	}
	return at, correlation
}

// transform is the radix-2 fast Fourier transform in place; the length is a
// power of two.
func transform(v []complex128, inverse bool) {
	n := len(v)
	shift := 64 - uint(bits.Len(uint(n-1)))
	for i := range v {
		if j := int(bits.Reverse64(uint64(i)) >> shift); j > i {
			v[i], v[j] = v[j], v[i]
		}
	}
	sign := -2 * math.Pi
	if inverse {
		sign = 2 * math.Pi
	}
	roots := make([]complex128, n/2)
	for i := range roots {
		roots[i] = cmplx.Rect(1, sign*float64(i)/float64(n))
	}
	for size := 2; size <= n; size *= 2 {
		for start := 0; start < n; start += size {
			for k := range size / 2 {
				a, b := v[start+k], v[start+k+size/2]*roots[k*(n/size)]
				v[start+k], v[start+k+size/2] = a+b, a-b
			}
		}
	}
	if inverse {
		for i := range v {
			v[i] /= complex(float64(n), 0)
		}
	}
}
