// Package packet is the plain side of RTP and RTCP (RFC 3550) for one audio
// stream each way: header writing and strict reading, sequence numbers and
// timestamps, loss, jitter and round trip. It has no encryption (secure), no
// buffering (jitter) and no mixers: a phone sends no CSRC list and no header
// extension, and skips those it receives.
package packet

import "errors"

// Sentinels that callers branch on.
var (
	ErrMalformed = errors.New("malformed RTP packet")
	ErrConfig    = errors.New("bad packet parameters")
)

// HeaderSize is the length in bytes of the headers this package writes.
const HeaderSize = 12

// IsRTCP tells RTCP from RTP on a shared port, RFC 5761 4: packet types 192 to
// 223 are RTCP. It is false for fewer than two bytes.
func IsRTCP(b []byte) bool { return len(b) >= 2 && b[1] >= 192 && b[1] <= 223 }
