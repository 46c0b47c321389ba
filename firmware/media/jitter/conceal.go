package jitter

import "fmt"

// Concealer invents the frames that did not come: it repeats the last pitch
// period and fades to silence within 60 ms (after the idea of G.711 Appendix
// I), and cross-fades back. Make it with [NewConcealer].
type Concealer struct {
	hist    []int16 // the last 60 ms that were played or invented
	minLag  int     // 2.5 ms: 400 Hz
	maxLag  int     // 15 ms: 66 Hz
	lag     int
	missing int // samples invented in a row
}

// NewConcealer makes one for PCM of rate Hz, 8000..48000.
func NewConcealer(rate int) (*Concealer, error) {
	if rate < 8000 || rate > 48000 {
		return nil, fmt.Errorf("concealer at %d Hz: %w", rate, ErrConfig)
	}
	return &Concealer{hist: make([]int16, rate*60/1000), minLag: rate / 400, maxLag: rate * 15 / 1000}, nil
}

// Good takes a decoded frame before it is played; after a gap its first 5 ms
// are blended with what was invented.
func (c *Concealer) Good(pcm []int16) {
	if c.missing > 0 {
		n := min(len(pcm), len(c.hist)/12)
		for i := range n {
			old := int(c.sample(i)) * (n - i)
			pcm[i] = int16((old + int(pcm[i])*i) / n)
		}
		c.missing = 0
	}
	c.remember(pcm)
}

// Conceal fills one missing frame.
func (c *Concealer) Conceal(pcm []int16) {
	if c.missing == 0 {
		c.lag = c.pitch()
	}
	for i := range pcm {
		pcm[i] = c.sample(i)
	}
	c.missing += len(pcm)
}

// sample is the i-th sample after those invented so far. The history stays as
// it was when the gap began.
func (c *Concealer) sample(i int) int16 {
	at := c.missing + i
	v := int(c.hist[len(c.hist)-c.lag+at%c.lag])
	hold, fade := len(c.hist)/6, len(c.hist)*5/6 // 10 ms full, 50 ms down
	gain := max(0, min(fade, fade-(at-hold)))
	return int16(v * gain / fade)
}

func (c *Concealer) remember(pcm []int16) {
	if len(pcm) >= len(c.hist) {
		copy(c.hist, pcm[len(pcm)-len(c.hist):])
		return
	}
	n := copy(c.hist, c.hist[len(pcm):])
	copy(c.hist[n:], pcm)
}

// pitch is the lag whose last period looks most like the one before, over
// every second sample of 15 ms.
func (c *Concealer) pitch() int {
	best, lag := -1.0, c.maxLag
	end := len(c.hist)
	for l := c.minLag; l <= c.maxLag; l++ {
		var cross, energy int64
		for i := end - c.maxLag; i < end; i += 2 {
			a, b := int64(c.hist[i]), int64(c.hist[i-l])
			cross += a * b
			energy += b * b
		}
		if cross <= 0 || energy == 0 {
			continue
		}
		if score := float64(cross) * float64(cross) / float64(energy); score > best*1.02 {
			best, lag = score, l
		}
	}
	return lag
}
