//go:build !linux

package display

import "errors"

// Open is not possible: this framebuffer interface is Linux.
func Open(string) (Screen, error) { return nil, errors.ErrUnsupported }
