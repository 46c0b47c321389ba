// Package g711 is ITU-T G.711: A-law and µ-law companding of 8 kHz PCM, one
// byte per sample. It does not resample and has no state, so no concealment
// (Appendix I) and no comfort noise (Appendix II). Bit-exact with the
// reference of ITU-T G.191, which truncates 16-bit input to 13 (A) or 14 (µ)
// bits in one's complement.
package g711

import (
	"errors"
	"math/bits"
)

// SampleRate is the rate of both sides in Hz.
const SampleRate = 8000

// ErrShort means that the destination cannot hold the result.
var ErrShort = errors.New("g711: buffer too short")

// EncodeA writes one A-law byte for each sample and returns how many.
func EncodeA(dst []byte, src []int16) (int, error) {
	if len(dst) < len(src) {
		return 0, ErrShort
	}
	for i, s := range src {
		dst[i] = encodeA(s)
	}
	return len(src), nil
}

// DecodeA writes one sample for each A-law byte. Every input is valid.
func DecodeA(dst []int16, src []byte) (int, error) {
	if len(dst) < len(src) {
		return 0, ErrShort
	}
	for i, c := range src {
		dst[i] = decodeA(c)
	}
	return len(src), nil
}

// EncodeU writes one µ-law byte for each sample and returns how many.
func EncodeU(dst []byte, src []int16) (int, error) {
	if len(dst) < len(src) {
		return 0, ErrShort
	}
	for i, s := range src {
		dst[i] = encodeU(s)
	}
	return len(src), nil
}

// DecodeU writes one sample for each µ-law byte. Every input is valid.
func DecodeU(dst []int16, src []byte) (int, error) {
	if len(dst) < len(src) {
		return 0, ErrShort
	}
	for i, c := range src {
		dst[i] = decodeU(c)
	}
	return len(src), nil
}

// encodeA: sign, 3 bits of segment, 4 bits of step; even bits inverted.
func encodeA(s int16) byte {
	sign := byte(0x80)
	v := uint(s) >> 4
	if s < 0 {
		sign = 0
		v = uint(^s) >> 4 // 1's complement, as in G.191 alaw_compress
	}
	v &= 0x7ff
	code := byte(v)
	if v > 31 {
		seg := bits.Len(v) - 4
		code = byte(seg<<4) | byte(v>>(seg-1))&0xf
	}
	return (sign | code) ^ 0x55
}

func decodeA(c byte) int16 {
	c ^= 0x55
	seg := c >> 4 & 7
	v := int16(c&0xf)<<4 + 8 // half a step
	if seg > 0 {
		v = (v + 0x100) << (seg - 1)
	}
	if c&0x80 == 0 {
		return -v
	}
	return v
}

const biasU = 33 // of the 14-bit magnitude, table 2a/G.711

func encodeU(s int16) byte {
	sign := byte(0x80)
	v := uint(s) >> 2
	if s < 0 {
		sign = 0
		v = uint(^s) >> 2
	}
	v = min(v&0x1fff+biasU, 0x1fff)
	seg := bits.Len(v) - 6
	return sign | (^(byte(seg<<4) | byte(v>>(seg+1))&0xf))&0x7f
}

func decodeU(c byte) int16 {
	n := ^c
	seg := n >> 4 & 7
	v := ((int16(n&0xf)<<1+biasU)<<seg - biasU) << 2
	if c&0x80 == 0 {
		return -v
	}
	return v
}
