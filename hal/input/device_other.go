//go:build !linux

package input

import "errors"

// Open is not possible: evdev is Linux.
func Open(string, bool) (Source, error) { return nil, errors.ErrUnsupported }

// Find is not possible: evdev is Linux.
func Find(string) (string, error) { return "", errors.ErrUnsupported }
