package sdp

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"ringfence/provisioning/wire/lock"
)

// crypto is one a=crypto line (RFC 4568 section 4).
type crypto struct {
	tag   uint32
	suite lock.Suite
	key   Key
}

func (c crypto) line() string {
	return fmt.Sprintf("a=crypto:%d %s inline:%s\r\n", c.tag, c.suite, base64.StdEncoding.EncodeToString(c.key))
}

// newCrypto draws a fresh key. crypto/rand.Read never fails.
func newCrypto(tag uint32, s lock.Suite) crypto {
	key := make([]byte, keySize(s))
	_, _ = rand.Read(key)
	return crypto{tag: tag, suite: s, key: key}
}

// parseCrypto reads the value of an a=crypto attribute. Every session
// parameter is refused: UNENCRYPTED_SRTP and its kin would take the
// protection away (RFC 4568 section 6.3), and the rest is not supported, which
// section 6.3.7 makes a reason to treat the line as invalid.
func parseCrypto(value string) (crypto, error) {
	fields := strings.Fields(value)
	if len(fields) < 3 {
		return crypto{}, fmt.Errorf("crypto line with %d fields, want 3: %w", len(fields), ErrMalformed)
	}
	if len(fields) > 3 {
		return crypto{}, fmt.Errorf("crypto session parameter %q: %w", fields[3], ErrNoSuite)
	}
	tag, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil || len(fields[0]) > 9 {
		return crypto{}, fmt.Errorf("crypto tag %q: %w", fields[0], ErrMalformed)
	}
	suite := lock.Suite(fields[1])
	if keySize(suite) == 0 {
		return crypto{}, fmt.Errorf("crypto suite %q: %w", fields[1], ErrNoSuite)
	}
	key, err := parseInline(fields[2], keySize(suite))
	if err != nil {
		return crypto{}, err
	}
	return crypto{tag: uint32(tag), suite: suite, key: key}, nil
}

// parseInline reads key-params: one key, an optional lifetime, no MKI.
func parseInline(s string, size int) (Key, error) {
	rest, ok := strings.CutPrefix(s, "inline:")
	if !ok || strings.Contains(rest, ";") {
		return nil, fmt.Errorf("crypto key method: %w", ErrNoSuite)
	}
	parts := strings.Split(rest, "|")
	if len(parts) > 2 || len(parts) == 2 && !longLifetime(parts[1]) {
		return nil, fmt.Errorf("crypto key with MKI or short lifetime: %w", ErrNoSuite)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[0])
	if err != nil || len(key) != size {
		return nil, fmt.Errorf("crypto key is not %d bytes of base64: %w", size, ErrNoSuite)
	}
	return key, nil
}

// longLifetime accepts 2^31 packets and more, which outlives any call: keys
// are not replaced in a call.
func longLifetime(s string) bool {
	if exp, ok := strings.CutPrefix(s, "2^"); ok {
		n, err := strconv.Atoi(exp)
		return err == nil && n >= 31 && n <= 48
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return err == nil && n >= 1<<31 && n <= 1<<48
}
