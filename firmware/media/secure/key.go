package secure

import (
	"crypto/aes"
	"encoding/binary"
	"fmt"
)

// Suite names an SRTP crypto suite as in SDES (RFC 4568, RFC 7714).
type Suite string

// The suites of this phone. AEADAES256GCM is the default everywhere.
const (
	AEADAES256GCM    Suite = "AEAD_AES_256_GCM"
	AESCM128HMACSHA1 Suite = "AES_CM_128_HMAC_SHA1_80"
)

// sizes gives the lengths of master key and master salt in bytes.
func (s Suite) sizes() (key, salt int, err error) {
	switch s {
	case AEADAES256GCM:
		return 32, 12, nil // RFC 7714 12
	case AESCM128HMACSHA1:
		return 16, 14, nil // RFC 3711 5
	}
	return 0, 0, fmt.Errorf("%q: %w", string(s), ErrSuite)
}

// KeySize is the length of a [Key] of this suite in bytes.
func (s Suite) KeySize() (int, error) {
	key, salt, err := s.sizes()
	return key + salt, err
}

// Overhead is the largest number of bytes that sealing adds to a packet: tag
// and SRTCP index.
const Overhead = 16 + 4

// Key is a master key followed by its master salt, the same octets as after
// "inline:" in SDES. It prints as "[secret]" whatever the verb; in JSON it is
// base64, since it must reach the media process.
type Key []byte

// String hides the key.
func (Key) String() string { return "[secret]" }

// Format hides the key from every verb, %x and %#v included.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) } // fmt has no use for the error

// split checks the size and returns key and salt.
func (s Suite) split(k Key) (key, salt []byte, err error) {
	nk, ns, err := s.sizes()
	if err != nil {
		return nil, nil, err
	}
	if len(k) != nk+ns {
		return nil, nil, fmt.Errorf("%s: %d bytes of key and salt, want %d: %w", s, len(k), nk+ns, ErrKeySize)
	}
	return k[:nk], k[nk:], nil
}

// Labels of the key derivation, RFC 3711 4.3.2.
const (
	labelRTPKey   = 0
	labelRTPAuth  = 1
	labelRTPSalt  = 2
	labelRTCPKey  = 3
	labelRTCPAuth = 4
	labelRTCPSalt = 5
)

// derive is the AES-CM pseudo-random function of RFC 3711 4.3.3 with a key
// derivation rate of zero; RFC 7714 11 pads its shorter salt on the right.
func derive(key, salt []byte, label byte, n int) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var in [aes.BlockSize]byte
	copy(in[:14], salt)
	in[7] ^= label
	out := make([]byte, 0, n+aes.BlockSize)
	for i := 0; len(out) < n; i++ {
		binary.BigEndian.PutUint16(in[14:], uint16(i))
		out = out[:len(out)+aes.BlockSize]
		block.Encrypt(out[len(out)-aes.BlockSize:], in[:])
	}
	return out[:n:n], nil
}
