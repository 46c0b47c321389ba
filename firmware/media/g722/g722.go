// Package g722 is the 64 kbit/s mode of ITU-T G.722 (09/2012): 7 kHz audio at
// 16 kHz in two ADPCM sub-bands, 160 bytes per 20 ms. It has no 56 and 48
// kbit/s modes, no Annex B/D extensions and no concealment (jitter conceals).
// Written from the Recommendation; names in comments are its block names.
package g722

import "errors"

// SampleRate is the rate of the PCM side in Hz. The RTP clock of G.722 is
// 8000 Hz all the same (RFC 3551 4.5.2).
const SampleRate = 16000

// ErrShort means that the destination cannot hold the result, or that an odd
// number of samples was given.
var ErrShort = errors.New("g722: buffer too short")

// qmf holds the even and odd halves' coefficients of the 24-tap quadrature
// mirror filter, table 11/G.722.
var qmf = [12]int32{3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11}

// Encoder keeps the state of one direction of one call. It is made by
// [NewEncoder] and used by one goroutine.
type Encoder struct {
	x         [24]int32
	low, high band
}

// NewEncoder returns an encoder in the reset state of the Recommendation.
func NewEncoder() *Encoder { return &Encoder{low: newLow(), high: newHigh()} }

// Encode writes one byte for each two samples of src and returns how many.
func (e *Encoder) Encode(dst []byte, src []int16) (int, error) {
	n := len(src) / 2
	if len(src)%2 != 0 || len(dst) < n {
		return 0, ErrShort
	}
	for i := range n {
		low, high := e.split(int32(src[2*i]), int32(src[2*i+1]))
		dst[i] = byte(e.encodeHigh(high)<<6 | e.encodeLow(low))
	}
	return n, nil
}

// split is TRANSMIT QMF: two input samples give one of each sub-band.
func (e *Encoder) split(a, b int32) (low, high int32) {
	copy(e.x[:22], e.x[2:])
	e.x[22], e.x[23] = a, b
	var even, odd int32
	for i := range 12 {
		odd += e.x[2*i] * qmf[i]
		even += e.x[2*i+1] * qmf[11-i]
	}
	return clamp15((even + odd) >> 14), clamp15((even - odd) >> 14)
}

// encodeLow is SUBTRA, QUANTL and the adaptation of the lower sub-band.
func (e *Encoder) encodeLow(x int32) int32 {
	el := sat(x - e.low.s)
	wd := el
	if el < 0 {
		wd = -(el + 1)
	}
	i := 1
	for i < 30 && wd >= (q6[i]*e.low.det)>>12 {
		i++
	}
	il := ilp[i]
	if el < 0 {
		il = iln[i]
	}
	e.low.adaptLow(il >> 2)
	return il
}

// encodeHigh is SUBTRA, QUANTH and the adaptation of the higher sub-band.
func (e *Encoder) encodeHigh(x int32) int32 {
	eh := sat(x - e.high.s)
	wd := eh
	if eh < 0 {
		wd = -(eh + 1)
	}
	mih := 1
	if wd >= (564*e.high.det)>>12 {
		mih = 2
	}
	ih := ihp[mih]
	if eh < 0 {
		ih = ihn[mih]
	}
	e.high.adaptHigh(ih)
	return ih
}

// Decoder keeps the state of one direction of one call. It is made by
// [NewDecoder] and used by one goroutine.
type Decoder struct {
	x         [24]int32
	low, high band
}

// NewDecoder returns a decoder in the reset state of the Recommendation.
func NewDecoder() *Decoder { return &Decoder{low: newLow(), high: newHigh()} }

// Decode writes two samples for each byte of src and returns how many. Every
// input is valid.
func (d *Decoder) Decode(dst []int16, src []byte) (int, error) {
	if len(dst) < 2*len(src) {
		return 0, ErrShort
	}
	for i, c := range src {
		low := d.decodeLow(int32(c & 0x3f))
		high := d.decodeHigh(int32(c >> 6))
		dst[2*i], dst[2*i+1] = d.join(low, high)
	}
	return 2 * len(src), nil
}

// decodeLow is INVQBL (mode 1), RECONS, LIMIT and the adaptation.
func (d *Decoder) decodeLow(il int32) int32 {
	out := clamp15(sat(d.low.s + (d.low.det*qm6[il])>>15))
	d.low.adaptLow(il >> 2)
	return out
}

// decodeHigh is INVQAH, RECONS, LIMIT and the adaptation.
func (d *Decoder) decodeHigh(ih int32) int32 {
	out := clamp15(sat(d.high.s + (d.high.det*qm2[ih])>>15))
	d.high.adaptHigh(ih)
	return out
}

// join is RECEIVE QMF.
func (d *Decoder) join(low, high int32) (int16, int16) {
	copy(d.x[:22], d.x[2:])
	d.x[22], d.x[23] = sat(low+high), sat(low-high)
	var first, second int32
	for i := range 12 {
		second += d.x[2*i] * qmf[i]
		first += d.x[2*i+1] * qmf[11-i]
	}
	return int16(sat(first >> 11)), int16(sat(second >> 11))
}

func sat(v int32) int32 { return max(-32768, min(32767, v)) }

func clamp15(v int32) int32 { return max(-16384, min(16383, v)) }
