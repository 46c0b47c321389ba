package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// SignImage signs a UKI for Secure Boot with the manufacturer's db key
// (Authenticode, by sbsign). It refuses a result that is not the same image.
func SignImage(ctx context.Context, unsigned []byte, m Manufacturer) ([]byte, error) {
	sbsign, err := tool("sbsign", "sbsigntool")
	if err != nil {
		return nil, err
	}
	before, err := Authenticode(unsigned)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ringfence-sign-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	in, out := filepath.Join(dir, "in.efi"), filepath.Join(dir, "out.efi")
	if err := os.WriteFile(in, unsigned, 0o600); err != nil {
		return nil, err
	}
	_, err = run(ctx, dir, nil, sbsign, "--key", absolute(m.path("secureboot", "db.key")), "--cert", absolute(m.path("secureboot", "db.crt")), "--output", out, in)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	signed, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	after, err := Authenticode(signed)
	if err != nil {
		return nil, err
	}
	if before != after {
		return nil, fmt.Errorf("signing changed the image: Authenticode digest %x, want %x", after, before)
	}
	return signed, nil
}

// absolute is path for a tool that runs in another directory.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
