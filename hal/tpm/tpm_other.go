//go:build !linux

package tpm

import "fmt"

// Open reports ErrAbsent: the phone's TPM is reached through Linux.
func Open(path string) (*Device, error) {
	return nil, fmt.Errorf("open %s: %w", path, ErrAbsent)
}
