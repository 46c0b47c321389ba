package secure

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"hash"
)

const (
	cmTag   = 10 // RFC 3711 5.2: 80 bits
	authKey = 20
)

// cm is AES_CM_128_HMAC_SHA1_80, RFC 3711 4.1.1 and 4.2.1. The counter loop is
// ours because cipher.NewCTR allocates a stream for each packet.
type cm struct {
	rtp, rtcp         cipher.Block
	rtpMAC, rtcpMAC   hash.Hash
	rtpSalt, rtcpSalt [14]byte
	counter           [aes.BlockSize]byte
	stream            [12 * aes.BlockSize]byte // a 20 ms frame at once
	roc               [4]byte
	sum               [sha1.Size]byte
}

func newCM(key, salt []byte) (*cm, error) {
	c := &cm{}
	for _, d := range []struct {
		key, auth, salt byte
		block           *cipher.Block
		mac             *hash.Hash
		out             *[14]byte
	}{
		{labelRTPKey, labelRTPAuth, labelRTPSalt, &c.rtp, &c.rtpMAC, &c.rtpSalt},
		{labelRTCPKey, labelRTCPAuth, labelRTCPSalt, &c.rtcp, &c.rtcpMAC, &c.rtcpSalt},
	} {
		k, err := derive(key, salt, d.key, len(key))
		if err != nil {
			return nil, err
		}
		a, err := derive(key, salt, d.auth, authKey)
		if err != nil {
			return nil, err
		}
		s, err := derive(key, salt, d.salt, len(salt))
		if err != nil {
			return nil, err
		}
		if *d.block, err = aes.NewCipher(k); err != nil {
			return nil, err
		}
		*d.mac = hmac.New(sha1.New, a)
		copy(d.out[:], s)
	}
	return c, nil
}

// xor is AES counter mode with the IV of RFC 3711 4.1.1:
// salt*2^16 xor SSRC*2^64 xor index*2^16.
func (c *cm) xor(block cipher.Block, salt *[14]byte, dst, src []byte, ssrc uint32, index uint64) {
	be := binary.BigEndian
	be.PutUint32(c.counter[0:], be.Uint32(salt[0:]))
	be.PutUint32(c.counter[4:], be.Uint32(salt[4:])^ssrc)
	be.PutUint32(c.counter[8:], be.Uint32(salt[8:])^uint32(index>>16))
	be.PutUint16(c.counter[12:], be.Uint16(salt[12:])^uint16(index))
	for n := 0; len(src) > 0; {
		have := 0
		for have < len(c.stream) && have < len(src) {
			be.PutUint16(c.counter[14:], uint16(n))
			block.Encrypt(c.stream[have:], c.counter[:])
			have += aes.BlockSize
			n++
		}
		k := subtle.XORBytes(dst, src, c.stream[:have])
		dst, src = dst[k:], src[k:]
	}
}

func (c *cm) tag(mac hash.Hash, data, tail []byte) []byte {
	mac.Reset()
	mac.Write(data)
	if len(tail) > 0 {
		mac.Write(tail)
	}
	return mac.Sum(c.sum[:0])[:cmTag]
}

// sealRTPTag is rtpTag with the rollover counter written behind the packet,
// where its tag goes next: one pass in place of two.
func (c *cm) sealRTPTag(dst []byte, n int, index uint64) []byte {
	binary.BigEndian.PutUint32(dst[n:], uint32(index>>16))
	return c.tag(c.rtpMAC, dst[:n+4], nil)
}

// rtpTag covers the packet and the rollover counter, RFC 3711 4.2.
func (c *cm) rtpTag(pkt []byte, index uint64) []byte {
	binary.BigEndian.PutUint32(c.roc[:], uint32(index>>16))
	return c.tag(c.rtpMAC, pkt, c.roc[:])
}

func (c *cm) sealRTP(dst, pkt []byte, hdr int, ssrc uint32, index uint64) int {
	n := len(pkt)
	c.xor(c.rtp, &c.rtpSalt, dst[hdr:n], pkt[hdr:], ssrc, index)
	copy(dst[n:n+cmTag], c.sealRTPTag(dst, n, index))
	return n + cmTag
}

func (c *cm) openRTP(dst, pkt []byte, hdr int, ssrc uint32, index uint64) (int, error) {
	n := len(pkt) - cmTag
	if subtle.ConstantTimeCompare(c.rtpTag(pkt[:n], index), pkt[n:]) != 1 {
		return 0, ErrAuth
	}
	c.xor(c.rtp, &c.rtpSalt, dst[hdr:n], pkt[hdr:n], ssrc, index)
	return n, nil
}

func (c *cm) sealRTCP(dst, pkt []byte, ssrc, index uint32) int {
	n := len(pkt)
	c.xor(c.rtcp, &c.rtcpSalt, dst[rtcpHeader:n], pkt[rtcpHeader:], ssrc, uint64(index))
	binary.BigEndian.PutUint32(dst[n:], encrypted|index)
	copy(dst[n+4:n+4+cmTag], c.tag(c.rtcpMAC, dst[:n+4], nil))
	return n + 4 + cmTag
}

func (c *cm) openRTCP(dst, pkt []byte, ssrc, index uint32) (int, error) {
	n := len(pkt) - cmTag
	if subtle.ConstantTimeCompare(c.tag(c.rtcpMAC, pkt[:n], nil), pkt[n:]) != 1 {
		return 0, ErrAuth
	}
	n -= 4
	c.xor(c.rtcp, &c.rtcpSalt, dst[rtcpHeader:n], pkt[rtcpHeader:n], ssrc, uint64(index))
	return n, nil
}

func (c *cm) rtcpIndex(n int) int { return n - cmTag - 4 }
func (c *cm) overheadRTP() int    { return cmTag }
func (c *cm) overheadRTCP() int   { return cmTag + 4 }
