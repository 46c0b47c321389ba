package media

import "errors"

// Sentinels that callers branch on.
var (
	ErrParams    = errors.New("bad media parameters")
	ErrMediaLost = errors.New("media lost") // nothing authentic came for Params.Timeout
)
