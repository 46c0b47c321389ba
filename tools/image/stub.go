package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// stubPackage has systemd's UEFI stub for arm64. It is fetched with a private
// apt root, so that the machine's own package lists stay as they are.
const (
	stubPackage = "systemd-boot-efi:arm64"
	stubFile    = "usr/lib/systemd/boot/efi/linuxaa64.efi.stub"
)

// Stub is the UEFI stub that a UKI starts with.
type Stub struct {
	Data    []byte
	Version string // Debian package version
}

// FetchStub returns the stub from cacheDir ("" = CacheDir()/stub), or fetches
// it from the Debian archive that the machine is configured for; apt verifies
// the archive's signature.
func FetchStub(ctx context.Context, cacheDir string, p Progress) (*Stub, error) {
	if cacheDir == "" {
		base, err := CacheDir()
		if err != nil {
			return nil, err
		}
		cacheDir = filepath.Join(base, "stub")
	}
	stub := &Stub{}
	return stub, locked(cacheDir, func() error {
		err := stub.read(cacheDir)
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		p.say("stub: fetching %s", stubPackage)
		if err := fetchStub(ctx, cacheDir); err != nil {
			return fmt.Errorf("fetch %s: %w", stubPackage, err)
		}
		return stub.read(cacheDir)
	})
}

func (s *Stub) read(dir string) error {
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return err
	}
	s.Version = strings.TrimSpace(string(version))
	s.Data, err = os.ReadFile(filepath.Join(dir, "linuxaa64.efi.stub"))
	return err
}

func fetchStub(ctx context.Context, cacheDir string) error {
	root, err := os.MkdirTemp(cacheDir, "apt-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "state", "out"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "status"), nil, 0o644); err != nil {
		return err
	}
	options := []string{"-qq", "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64", "-o", "APT::Sandbox::User=",
		"-o", "Acquire::Languages=none", "-o", "Dir::State=" + filepath.Join(root, "state"), "-o", "Dir::State::lists=" + filepath.Join(root, "lists"),
		"-o", "Dir::State::status=" + filepath.Join(root, "status"), "-o", "Dir::Cache=" + filepath.Join(root, "cache")}
	if _, err := run(ctx, root, nil, "apt-get", append(options, "update")...); err != nil {
		return err
	}
	if _, err := run(ctx, filepath.Join(root, "out"), nil, "apt-get", append(options, "download", stubPackage)...); err != nil {
		return err
	}
	return unpackStub(ctx, root, cacheDir)
}

func unpackStub(ctx context.Context, root, cacheDir string) error {
	debs, err := filepath.Glob(filepath.Join(root, "out", "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt left %d packages, want 1", len(debs))
	}
	if _, err := run(ctx, root, nil, "dpkg-deb", "-x", debs[0], filepath.Join(root, "x")); err != nil {
		return err
	}
	version, err := run(ctx, root, nil, "dpkg-deb", "-f", debs[0], "Version")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(root, "x", stubFile))
	if err != nil {
		return err
	}
	if err := writeAtomic(filepath.Join(cacheDir, "linuxaa64.efi.stub"), data, 0o644); err != nil {
		return err
	}
	return writeAtomic(filepath.Join(cacheDir, "version"), []byte(version), 0o644) // last: it marks the pair as whole
}
