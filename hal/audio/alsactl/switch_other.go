//go:build !linux

package alsactl

import (
	"errors"

	"ringfence/hal/audio"
)

// Open is not possible: this control interface is Linux.
func Open(string, string) (audio.Switch, error) { return nil, errors.ErrUnsupported }
