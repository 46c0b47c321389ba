package tpm

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
)

// Open opens the TPM device at path (normally [Path]). Without the device the
// error is ErrAbsent. The caller closes the result.
func Open(path string) (*Device, error) {
	conn, err := linuxtpm.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return New(conn)
}
