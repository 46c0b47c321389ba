// Package sdp is the offer/answer of one SRTP audio stream: RFC 4566 text,
// RFC 3264 rules, keys by SDES (RFC 4568, RFC 7714 section 14). Every offer
// and answer is RTP/SAVP with a key; there is no clear-text stream, no NULL
// cipher and no opportunistic SRTP (RFC 8643) to fall back to. It is not a
// general SDP library: one audio stream, everything else is declined.
package sdp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"ringfence/provisioning/wire/lock"
)

// MaxSize bounds a session description, in bytes.
const MaxSize = 4 << 10

const maxMedia, maxCrypto, maxFormats = 8, 8, 32

// Why a session description is refused. A caller answers 488 to all of them.
var (
	ErrMalformed = errors.New("malformed session description")
	ErrClear     = errors.New("no encrypted audio stream (RTP/SAVP) offered")
	ErrNoSuite   = errors.New("no acceptable SRTP key")
	ErrNoCodec   = errors.New("no acceptable codec")
	ErrAddress   = errors.New("unusable media address")
)

// Key is an SRTP master key followed by its master salt. It never prints.
type Key []byte

// String hides the key.
func (Key) String() string { return "[secret]" }

// GoString hides the key.
func (Key) GoString() string { return "[secret]" }

// Format hides the key under every verb, %x included.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue hides the key from slog, which prints byte slices itself.
func (Key) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText hides the key from JSON and text; who must pass it on to the
// media process converts it to []byte first.
func (Key) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Direction is who sends, as seen from this phone (RFC 3264 section 6.1).
type Direction string

// The four directions.
const (
	SendRecv Direction = "sendrecv"
	SendOnly Direction = "sendonly"
	RecvOnly Direction = "recvonly"
	Inactive Direction = "inactive"
)

func (d Direction) reverse() Direction {
	switch d {
	case SendOnly:
		return RecvOnly
	case RecvOnly:
		return SendOnly
	}
	return d
}

// Stream is an agreed audio stream: 20 ms packets, encrypted both ways.
type Stream struct {
	Codec       lock.Codec
	PayloadType uint8
	EventType   uint8 // telephone-event payload type (RFC 4733), 0 = none
	Remote      netip.AddrPort
	Suite       lock.Suite
	LocalKey    Key // protects what we send
	RemoteKey   Key // protects what we receive
	Direction   Direction
	RTCPMux     bool // RTCP shares the RTP port (RFC 5761)
}

// Policy is what the locked configuration allows, most wanted first.
type Policy struct {
	Codecs []lock.Codec // never empty
	Suites []lock.Suite // never empty
}

func (p Policy) check() error {
	if len(p.Codecs) == 0 || len(p.Suites) == 0 {
		return fmt.Errorf("sdp policy: %d codecs and %d suites, want one or more of each", len(p.Codecs), len(p.Suites))
	}
	for _, c := range p.Codecs {
		if _, ok := payloadType(c); !ok {
			return fmt.Errorf("sdp policy: unknown codec %q", c)
		}
	}
	for _, s := range p.Suites {
		if keySize(s) == 0 {
			return fmt.Errorf("sdp policy: unknown suite %q", s)
		}
	}
	return nil
}

// payloadType is the static type of c (RFC 3551 table 4).
func payloadType(c lock.Codec) (uint8, bool) {
	switch c {
	case lock.PCMU:
		return 0, true
	case lock.PCMA:
		return 8, true
	case lock.G722:
		return 9, true
	}
	return 0, false
}

// keySize is the length of master key and salt of s in bytes, 0 when unknown.
func keySize(s lock.Suite) int {
	switch s {
	case lock.AEADAES256GCM:
		return 32 + 12 // RFC 7714 section 12
	case lock.AESCM128HMACSHA1:
		return 16 + 14 // RFC 4568 section 6.2.1
	}
	return 0
}

// chooseCodec picks our most wanted codec among the peer's formats.
func chooseCodec(p Policy, m audio) (lock.Codec, uint8, error) {
	for _, c := range p.Codecs {
		want, _ := payloadType(c)
		for _, f := range m.formats {
			if m.codecOf(f) == c && (f == want || f >= 96) {
				return c, f, nil
			}
		}
	}
	return "", 0, fmt.Errorf("formats %v: %w", m.formats, ErrNoCodec)
}

// chooseCrypto picks our most wanted suite among the peer's crypto lines.
func chooseCrypto(p Policy, lines []crypto) (crypto, error) {
	for _, s := range p.Suites {
		if i := slices.IndexFunc(lines, func(c crypto) bool { return c.suite == s }); i >= 0 {
			return lines[i], nil
		}
	}
	return crypto{}, fmt.Errorf("%d usable crypto lines: %w", len(lines), ErrNoSuite)
}
