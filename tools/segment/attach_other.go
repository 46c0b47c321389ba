//go:build !linux

package segment

import (
	"errors"
	"os"
)

// Attach needs Linux.
func (s *Segment) Attach(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// AttachTAP needs Linux.
func (s *Segment) AttachTAP(string) error { return errors.ErrUnsupported }
