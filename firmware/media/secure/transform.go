package secure

// transform is the cryptography of one direction of one suite. Slices may
// overlap only exactly; packet structure was checked by the caller.
//
//	rtp:  | header | payload            | tag |
//	rtcp: | 8 bytes | rest of compound  | tag and E+index, order by suite |
type transform interface {
	// sealRTP encrypts pkt[hdr:] into dst, whose first hdr bytes are the
	// header already, and returns the length of the protected packet.
	sealRTP(dst, pkt []byte, hdr int, ssrc uint32, index uint64) int
	// openRTP authenticates and decrypts pkt[hdr:] into dst and returns the
	// length of the plain packet.
	openRTP(dst, pkt []byte, hdr int, ssrc uint32, index uint64) (int, error)
	sealRTCP(dst, pkt []byte, ssrc, index uint32) int
	openRTCP(dst, pkt []byte, ssrc, index uint32) (int, error)
	// rtcpIndex is where the E+index word begins in a protected packet.
	rtcpIndex(n int) int
	// the bytes that protection adds
	overheadRTP() int
	overheadRTCP() int
}

func newTransform(s Suite, k Key) (transform, error) {
	key, salt, err := s.split(k)
	if err != nil {
		return nil, err
	}
	if s == AEADAES256GCM {
		return newGCM(key, salt)
	}
	return newCM(key, salt)
}

// encrypted is the E flag of SRTCP; without it a packet is refused.
const encrypted = 1 << 31

const rtcpHeader = 8
