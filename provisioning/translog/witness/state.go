package witness

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"

	"ringfence/provisioning/wire"
)

// maxState bounds the state file, in bytes.
const maxState = 1 << 20

// Seen is the last tree head that was cosigned for a log.
type Seen struct {
	Size int64  `json:"size"`
	Root string `json:"root"` // base64 of the SHA-256
}

// state is the durable memory of a witness: log origin to tree head.
type state struct {
	path string
	lock *os.File
	seen map[string]Seen
}

// InitState makes the empty memory of a new witness. It refuses to replace one:
// a witness that forgot would sign a fork.
func InitState(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("state %s: %w", path, errors.Join(err, os.ErrExist))
	}
	return writeDurable(path, []byte("{}\n"))
}

// openState reads the memory and keeps other witnesses away from it. A missing
// or damaged file is an error.
func openState(path string) (*state, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock witness state: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("witness state %s is in use by another witness: %w", path, err), lock.Close())
	}
	s := &state{path: path, lock: lock}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read witness state (a new witness needs init): %w", err), lock.Close())
	}
	err = wire.DecodeStrict(raw, maxState, &s.seen)
	for origin, seen := range s.seen {
		if _, hashErr := tlog.ParseHash(seen.Root); hashErr != nil || seen.Size < 0 {
			err = errors.Join(err, fmt.Errorf("tree head of %s is damaged", origin))
		}
	}
	if err != nil || s.seen == nil {
		return nil, errors.Join(fmt.Errorf("witness state %s is damaged: %w", path, err), lock.Close())
	}
	return s, nil
}

// put writes the new head to the disk, then to the memory.
func (s *state) put(origin string, head Seen) error {
	next := map[string]Seen{origin: head}
	for o, h := range s.seen {
		if o != origin {
			next[o] = h
		}
	}
	raw, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := writeDurable(s.path, append(raw, '\n')); err != nil {
		return fmt.Errorf("write witness state: %w", err)
	}
	s.seen = next
	return nil
}

func (s *state) close() error { return s.lock.Close() }

// writeDurable replaces a file so that a power cut leaves the old or the new
// one, and returns when the new one is on the disk.
func writeDurable(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
