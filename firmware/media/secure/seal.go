package secure

import (
	"encoding/binary"
	"fmt"
)

const (
	rtpHeader = 12
	maxIndex  = 1<<48 - 1
	maxRTCP   = 1<<31 - 1
)

// Sealer protects what one source sends. Make it with [NewSealer].
type Sealer struct {
	t       transform
	ssrc    uint32
	started bool
	index   uint64 // of the last RTP packet: ROC*2^16 + SEQ
	rtcp    uint32 // index of the next RTCP packet
}

// NewSealer refuses an unknown suite and a key of the wrong size. The key is
// not kept.
func NewSealer(suite Suite, key Key, ssrc uint32) (*Sealer, error) {
	t, err := newTransform(suite, key)
	if err != nil {
		return nil, fmt.Errorf("make sealer: %w", err)
	}
	return &Sealer{t: t, ssrc: ssrc}, nil
}

// SealRTP protects pkt into dst[:0] and returns it. dst must have a capacity of
// len(pkt)+Overhead and be pkt[:0] or not overlap it. Sequence numbers must
// grow; a step back is ErrIndex, as it would use a nonce twice.
func (s *Sealer) SealRTP(dst, pkt []byte) ([]byte, error) {
	hdr, err := headerLen(pkt)
	if err != nil {
		return nil, err
	}
	if cap(dst) < len(pkt)+Overhead {
		return nil, fmt.Errorf("seal into %d bytes: %w", cap(dst), ErrMalformed)
	}
	if binary.BigEndian.Uint32(pkt[8:]) != s.ssrc {
		return nil, ErrSource
	}
	index, err := s.next(binary.BigEndian.Uint16(pkt[2:]))
	if err != nil {
		return nil, err
	}
	s.index, s.started = index, true
	dst = dst[:len(pkt)+Overhead]
	copy(dst[:hdr], pkt[:hdr])
	return dst[:s.t.sealRTP(dst, pkt, hdr, s.ssrc, index)], nil
}

// next gives seq its place after the last index.
func (s *Sealer) next(seq uint16) (uint64, error) {
	if !s.started {
		return uint64(seq), nil
	}
	step := seq - uint16(s.index)
	if step == 0 || step >= 1<<15 {
		return 0, ErrIndex
	}
	index := s.index + uint64(step)
	if index > maxIndex {
		return 0, ErrExhausted
	}
	return index, nil
}

// SealRTCP protects one compound packet like SealRTP.
func (s *Sealer) SealRTCP(dst, pkt []byte) ([]byte, error) {
	if len(pkt) < rtcpHeader || pkt[0]>>6 != 2 || cap(dst) < len(pkt)+Overhead {
		return nil, ErrMalformed
	}
	if binary.BigEndian.Uint32(pkt[4:]) != s.ssrc {
		return nil, ErrSource
	}
	if s.rtcp > maxRTCP {
		return nil, ErrExhausted
	}
	index := s.rtcp
	s.rtcp++
	dst = dst[:len(pkt)+Overhead]
	copy(dst[:rtcpHeader], pkt[:rtcpHeader])
	return dst[:s.t.sealRTCP(dst, pkt, s.ssrc, index)], nil
}

// headerLen is the length of an RTP header with CSRCs and extension, RFC 3550
// 5.1 and 5.3.1.
func headerLen(pkt []byte) (int, error) {
	if len(pkt) < rtpHeader || pkt[0]>>6 != 2 {
		return 0, ErrMalformed
	}
	n := rtpHeader + 4*int(pkt[0]&0xf)
	if pkt[0]&0x10 != 0 {
		if len(pkt) < n+4 {
			return 0, ErrMalformed
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(pkt[n+2:]))
	}
	if len(pkt) < n {
		return 0, ErrMalformed
	}
	return n, nil
}
