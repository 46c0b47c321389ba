// Package lockcfg keeps the phone's locked configuration: it opens what the
// server sent, has it applied, stores it sealed, raises the version floor in
// the TPM and publishes it. It fetches nothing and applies nothing itself.
//
// Specifications: wire/lock (DSSE inside HPKE, RFC 9180).
package lockcfg

import (
	"crypto/hpke"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"

	"ringfence/firmware/state"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/lock"
)

// Floor is the version floor that survives everything: TPM NV.
type Floor interface {
	Read() (uint64, error)
	Raise(value uint64) error
}

// Config is what a Keeper needs; every field is required.
type Config struct {
	Path   string // of the stored, still sealed configuration
	Key    hpke.PrivateKey
	Device device.ID
	Owner  *x509.Certificate // pinned by the voucher
	Floor  Floor
	Apply  func(*lock.Config) error // called with each configuration before it is kept
}

func (c *Config) validate() error {
	if c.Path == "" || c.Key == nil || c.Device == "" || c.Owner == nil || c.Floor == nil || c.Apply == nil {
		return errors.New("locked configuration: path, key, device, owner, floor and apply are all required")
	}
	return nil
}

// ErrStored reports that the stored configuration cannot be used. The phone
// goes on without one until the server sends another.
var ErrStored = errors.New("stored configuration is unusable")

const fileName = "config.sealed"

// Path returns where the sealed configuration lies in a state directory.
func Path(dir string) string { return filepath.Join(dir, fileName) }

// Keeper holds the configuration in force. Safe for concurrent use.
type Keeper struct {
	cfg      Config
	mu       sync.Mutex // one change at a time
	applied  bool       // the snapshot was applied; guarded by mu
	snapshot atomic.Pointer[lock.Config]
}

// New returns a Keeper without a configuration; call Reload at boot.
func New(cfg Config) (*Keeper, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Keeper{cfg: cfg}, nil
}

// Current returns the configuration in force, nil when there is none. The
// caller must not change it.
func (k *Keeper) Current() *lock.Config { return k.snapshot.Load() }

// Version returns the version in force, 0 when there is none.
func (k *Keeper) Version() uint64 {
	if c := k.Current(); c != nil {
		return c.Version
	}
	return 0
}

// Receive opens, applies and keeps a sealed configuration. When it returns an
// error the former one is in force; lock.Cause names the reason. A
// configuration whose Apply fails is undone by applying the former one again.
func (k *Keeper) Receive(sealed []byte) (*lock.Config, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// A phone whose stored file was lost takes the version at its floor once
	// more: versions are never given twice, so it is the same configuration.
	c, err := k.open(sealed, k.Current() == nil)
	if err != nil {
		return nil, err
	}
	if err := k.apply(c); err != nil {
		return nil, err
	}
	// First the file, then the floor: a power cut between them leaves a file
	// above the floor, which Reload accepts and raises.
	if err := k.keep(sealed, c.Version); err != nil {
		return nil, errors.Join(err, k.revert())
	}
	k.snapshot.Store(c)
	k.applied = true
	return c, nil
}

func (k *Keeper) apply(c *lock.Config) error {
	err := k.cfg.Apply(c)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("apply configuration %d: %w", c.Version, err), k.revert())
}

func (k *Keeper) revert() error {
	former := k.Current()
	if former == nil || !k.applied {
		return nil
	}
	if err := k.cfg.Apply(former); err != nil {
		return fmt.Errorf("return to configuration %d: %w", former.Version, err)
	}
	return nil
}

func (k *Keeper) keep(sealed []byte, version uint64) error {
	if err := state.Write(k.cfg.Path, sealed); err != nil {
		return fmt.Errorf("keep configuration %d: %w", version, err)
	}
	if err := k.cfg.Floor.Raise(version); err != nil {
		return fmt.Errorf("keep configuration %d: %w", version, err)
	}
	return nil
}

// Reload reads and verifies the stored configuration at boot; Activate applies
// it. Without one it returns nil and no error; one that does not verify is
// ErrStored.
func (k *Keeper) Reload() (*lock.Config, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	sealed, err := state.Read(k.cfg.Path, 2*lock.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStored, err)
	}
	c, err := k.open(sealed, true)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStored, err)
	}
	if err := k.cfg.Floor.Raise(c.Version); err != nil {
		return nil, err
	}
	k.snapshot.Store(c)
	k.applied = false
	return c, nil
}

// Activate applies what Reload found, once; true when it did so now.
func (k *Keeper) Activate() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.Current()
	if c == nil || k.applied {
		return false, nil
	}
	if err := k.cfg.Apply(c); err != nil {
		return false, fmt.Errorf("apply configuration %d: %w", c.Version, err)
	}
	k.applied = true
	return true, nil
}

func (k *Keeper) open(sealed []byte, again bool) (*lock.Config, error) {
	floor, err := k.cfg.Floor.Read()
	if err != nil {
		return nil, fmt.Errorf("version floor: %w", err)
	}
	return lock.Open(sealed, k.cfg.Key, k.cfg.Device, k.cfg.Owner, floor, again)
}
