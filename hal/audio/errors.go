package audio

import "errors"

// Sentinels that callers branch on.
var (
	ErrXrun      = errors.New("audio device was overrun or underrun") // restarted, call again
	ErrUnplugged = errors.New("audio device is gone")
	ErrStalled   = errors.New("audio device gives no periods")
	ErrShort     = errors.New("buffer is not one period long")
	ErrFormat    = errors.New("audio format not supported")
	ErrClosed    = errors.New("audio device is closed")
)
