package secure

import (
	"encoding/binary"
	"fmt"
)

// maxSources bounds the SSRCs that one key may serve in one call. A source is
// never forgotten: forgetting would let its packets be replayed.
const maxSources = 4

// Opener authenticates and decrypts what the peer sends. Make it with
// [NewOpener].
type Opener struct {
	t       transform
	sources [maxSources]source
	n       int
}

// source is what must be remembered of one SSRC.
type source struct {
	ssrc      uint32
	rtp, rtcp window
}

// NewOpener refuses an unknown suite and a key of the wrong size. The key is
// not kept.
func NewOpener(suite Suite, key Key) (*Opener, error) {
	t, err := newTransform(suite, key)
	if err != nil {
		return nil, fmt.Errorf("make opener: %w", err)
	}
	return &Opener{t: t}, nil
}

// OpenRTP authenticates pkt, decrypts it into dst[:0] and returns the plain
// packet. dst must have a capacity of len(pkt) and be pkt[:0] or not overlap
// it; after an error its content is undefined. Errors: ErrMalformed, ErrAuth,
// ErrReplay, ErrSources.
func (o *Opener) OpenRTP(dst, pkt []byte) ([]byte, error) {
	hdr, err := headerLen(pkt)
	if err != nil {
		return nil, err
	}
	if len(pkt) < hdr+o.t.overheadRTP() || cap(dst) < len(pkt) {
		return nil, ErrMalformed
	}
	ssrc, seq := binary.BigEndian.Uint32(pkt[8:]), binary.BigEndian.Uint16(pkt[2:])
	src, w := o.find(ssrc), window{}
	if src != nil {
		w = src.rtp
	}
	index, ok := w.estimate(seq)
	if !ok || !w.fresh(index) {
		return nil, ErrReplay
	}
	dst = dst[:len(pkt)]
	copy(dst[:hdr], pkt[:hdr])
	n, err := o.t.openRTP(dst, pkt, hdr, ssrc, index)
	if err != nil {
		return nil, err
	}
	if src, err = o.admit(src, ssrc); err != nil {
		return nil, err
	}
	src.rtp.accept(index)
	return dst[:n], nil
}

// OpenRTCP is OpenRTP for a compound RTCP packet. An unencrypted one is
// refused with ErrAuth.
func (o *Opener) OpenRTCP(dst, pkt []byte) ([]byte, error) {
	if len(pkt) < rtcpHeader+o.t.overheadRTCP() || pkt[0]>>6 != 2 || cap(dst) < len(pkt) {
		return nil, ErrMalformed
	}
	word := binary.BigEndian.Uint32(pkt[o.t.rtcpIndex(len(pkt)):])
	if word&encrypted == 0 {
		return nil, ErrAuth
	}
	ssrc, index := binary.BigEndian.Uint32(pkt[4:]), word&^encrypted
	src, w := o.find(ssrc), window{}
	if src != nil {
		w = src.rtcp
	}
	if !w.fresh(uint64(index)) {
		return nil, ErrReplay
	}
	dst = dst[:len(pkt)]
	copy(dst[:rtcpHeader], pkt[:rtcpHeader])
	n, err := o.t.openRTCP(dst, pkt, ssrc, index)
	if err != nil {
		return nil, err
	}
	if src, err = o.admit(src, ssrc); err != nil {
		return nil, err
	}
	src.rtcp.accept(uint64(index))
	return dst[:n], nil
}

func (o *Opener) find(ssrc uint32) *source {
	for i := range o.n {
		if o.sources[i].ssrc == ssrc {
			return &o.sources[i]
		}
	}
	return nil
}

// admit makes room for a source whose packet was authenticated.
func (o *Opener) admit(src *source, ssrc uint32) (*source, error) {
	if src != nil {
		return src, nil
	}
	if o.n == maxSources {
		return nil, ErrSources
	}
	src = &o.sources[o.n]
	src.ssrc = ssrc
	o.n++
	return src, nil
}
