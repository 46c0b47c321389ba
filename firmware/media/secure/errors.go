package secure

import "errors"

// Sentinels that callers branch on.
var (
	ErrSuite     = errors.New("unknown SRTP suite")
	ErrKeySize   = errors.New("wrong SRTP master key size")
	ErrMalformed = errors.New("malformed packet")
	ErrAuth      = errors.New("packet failed authentication")
	ErrReplay    = errors.New("packet was replayed or is too old")
	ErrSources   = errors.New("too many sources for one key")
	ErrSource    = errors.New("packet has a foreign SSRC")
	ErrIndex     = errors.New("packet index was used before")
	ErrExhausted = errors.New("key is exhausted")
)
