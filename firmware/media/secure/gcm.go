package secure

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

const gcmTag = 16

// gcm is AEAD_AES_256_GCM, RFC 7714. The nonces live here because a slice
// passed through an interface escapes.
type gcm struct {
	rtp, rtcp         cipher.AEAD
	rtpSalt, rtcpSalt [12]byte
	nonce             [12]byte
	aad               [12]byte
}

func newGCM(key, salt []byte) (*gcm, error) {
	g := &gcm{}
	for _, d := range []struct {
		key, salt byte
		aead      *cipher.AEAD
		out       *[12]byte
	}{{labelRTPKey, labelRTPSalt, &g.rtp, &g.rtpSalt}, {labelRTCPKey, labelRTCPSalt, &g.rtcp, &g.rtcpSalt}} {
		k, err := derive(key, salt, d.key, len(key))
		if err != nil {
			return nil, err
		}
		s, err := derive(key, salt, d.salt, len(salt))
		if err != nil {
			return nil, err
		}
		if *d.aead, err = newAEAD(k); err != nil {
			return nil, err
		}
		copy(d.out[:], s)
	}
	return g, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// rtpNonce is RFC 7714 8.1: 00 00 | SSRC | ROC | SEQ, xored with the salt.
func (g *gcm) rtpNonce(ssrc uint32, index uint64) []byte {
	be := binary.BigEndian
	be.PutUint16(g.nonce[0:], be.Uint16(g.rtpSalt[0:]))
	be.PutUint32(g.nonce[2:], be.Uint32(g.rtpSalt[2:])^ssrc)
	be.PutUint32(g.nonce[6:], be.Uint32(g.rtpSalt[6:])^uint32(index>>16))
	be.PutUint16(g.nonce[10:], be.Uint16(g.rtpSalt[10:])^uint16(index))
	return g.nonce[:]
}

// rtcpNonce is RFC 7714 9.1: 00 00 | SSRC | 00 00 | index, xored with the salt.
func (g *gcm) rtcpNonce(ssrc, index uint32) []byte {
	be := binary.BigEndian
	g.nonce = g.rtcpSalt
	be.PutUint32(g.nonce[2:], be.Uint32(g.nonce[2:])^ssrc)
	be.PutUint32(g.nonce[8:], be.Uint32(g.nonce[8:])^index)
	return g.nonce[:]
}

func (g *gcm) sealRTP(dst, pkt []byte, hdr int, ssrc uint32, index uint64) int {
	g.rtp.Seal(dst[hdr:hdr], g.rtpNonce(ssrc, index), pkt[hdr:], dst[:hdr])
	return len(pkt) + gcmTag
}

func (g *gcm) openRTP(dst, pkt []byte, hdr int, ssrc uint32, index uint64) (int, error) {
	if _, err := g.rtp.Open(dst[hdr:hdr], g.rtpNonce(ssrc, index), pkt[hdr:], pkt[:hdr]); err != nil {
		return 0, ErrAuth
	}
	return len(pkt) - gcmTag, nil
}

// rtcpAAD is RFC 7714 9.2: the first 8 octets and the E+index word.
func (g *gcm) rtcpAAD(pkt []byte, index uint32) []byte {
	copy(g.aad[:8], pkt)
	binary.BigEndian.PutUint32(g.aad[8:], encrypted|index)
	return g.aad[:]
}

func (g *gcm) sealRTCP(dst, pkt []byte, ssrc, index uint32) int {
	n := len(pkt) + gcmTag
	g.rtcp.Seal(dst[rtcpHeader:rtcpHeader], g.rtcpNonce(ssrc, index), pkt[rtcpHeader:], g.rtcpAAD(pkt, index))
	binary.BigEndian.PutUint32(dst[n:], encrypted|index)
	return n + 4
}

func (g *gcm) openRTCP(dst, pkt []byte, ssrc, index uint32) (int, error) {
	body := pkt[rtcpHeader : len(pkt)-4]
	if _, err := g.rtcp.Open(dst[rtcpHeader:rtcpHeader], g.rtcpNonce(ssrc, index), body, g.rtcpAAD(pkt, index)); err != nil {
		return 0, ErrAuth
	}
	return len(pkt) - gcmTag - 4, nil
}

func (g *gcm) rtcpIndex(n int) int { return n - 4 }
func (g *gcm) overheadRTP() int    { return gcmTag }
func (g *gcm) overheadRTCP() int   { return gcmTag + 4 }
