package release

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lock keeps other publishers out until the returned function is called.
func (r *Repository) lock() (func(), error) {
	f, err := os.OpenFile(filepath.Join(r.dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("somebody else publishes into %s: %w", r.dir, err)
	}
	return func() { _ = f.Close() }, nil // closing gives the lock up
}
