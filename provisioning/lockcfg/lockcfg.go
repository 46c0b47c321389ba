// Package lockcfg makes the locked configuration of each phone from the
// site's and the phone's own settings: rendered, versioned, signed and sealed.
// It delivers nothing; that is package push.
//
// Specifications: DSSE 1.0, RFC 9180 (HPKE); the schema is wire/lock.
package lockcfg

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/lock"
)

// Site is the scope of the settings that every phone starts from; the scope
// of a phone's own settings is its ID.
const Site = "site"

// ErrIncomplete reports that settings are missing for a valid configuration.
var ErrIncomplete = errors.New("settings do not make a valid configuration")

// Issued is the newest configuration of one phone.
type Issued struct {
	Version uint64 `json:"version"`
	Content string `json:"content"` // digest of what was rendered and for which key
	Sealed  []byte `json:"sealed"`
}

// Store keeps settings and issued configurations durably; every edit is one
// transaction.
type Store interface {
	Settings(ctx context.Context, scope string) (Settings, error) // empty when none
	AllSettings(ctx context.Context) (map[string]Settings, error) // by scope
	UpdateSettings(ctx context.Context, scope string, edit func(Settings) error) error
	UpdateIssued(ctx context.Context, id device.ID, edit func(*Issued) error) error
}

// Config is what a Maker needs; every field is required.
type Config struct {
	Store       Store
	Signer      crypto.Signer     // the configuration signer
	Certificate *x509.Certificate // of Signer, by the owner's CA
	CAs         [][]byte          // DER, anchors of the call server
	Defaults    Settings          // below the site's settings
}

// ErrTaken reports a line that another phone has: two phones must not answer
// for one number.
var ErrTaken = errors.New("another phone has this line")

// Maker makes configurations. Safe for concurrent use.
type Maker struct {
	cfg     Config
	changes sync.Mutex // held from the look at all lines to the change of one
}

// New checks cfg.
func New(cfg Config) (*Maker, error) {
	if cfg.Store == nil || cfg.Signer == nil || cfg.Certificate == nil || len(cfg.CAs) == 0 {
		return nil, errors.New("configuration maker without store, signer, certificate or call server anchors")
	}
	return &Maker{cfg: cfg}, nil
}

// Set changes settings of a scope; an empty value removes a setting. All are
// checked before any is changed.
func (m *Maker) Set(ctx context.Context, scope string, changes Settings) error {
	m.changes.Lock()
	defer m.changes.Unlock()
	if err := m.lineIsFree(ctx, scope, changes[lineUser]); err != nil {
		return err
	}
	return m.cfg.Store.UpdateSettings(ctx, scope, func(s Settings) error {
		for key, value := range changes {
			if err := check(scope, key, value); err != nil {
				return err
			}
			if value == "" {
				delete(s, key)
			} else {
				s[key] = value
			}
		}
		return nil
	})
}

func (m *Maker) lineIsFree(ctx context.Context, scope, user string) error {
	if user == "" {
		return nil
	}
	all, err := m.cfg.Store.AllSettings(ctx)
	if err != nil {
		return err
	}
	for other, s := range all {
		if other != scope && s[lineUser] == user {
			return fmt.Errorf("%s %q of %s: %s has it: %w", lineUser, user, scope, other, ErrTaken)
		}
	}
	return nil
}

// Settings returns the settings of one scope alone.
func (m *Maker) Settings(ctx context.Context, scope string) (Settings, error) {
	return m.cfg.Store.Settings(ctx, scope)
}

// Effective merges defaults, site and device.
func (m *Maker) Effective(ctx context.Context, id device.ID) (Settings, error) {
	all := make(Settings)
	for key, value := range m.cfg.Defaults {
		all[key] = value
	}
	for _, scope := range []string{Site, string(id)} {
		s, err := m.cfg.Store.Settings(ctx, scope)
		if err != nil {
			return nil, err
		}
		for key, value := range s {
			all[key] = value
		}
	}
	return all, nil
}

// Issue returns the phone's configuration: the stored one when nothing
// changed, else a new version above both the stored one and inForce, which is
// what the phone says it holds. sealKey is an uncompressed P-256 point.
func (m *Maker) Issue(ctx context.Context, id device.ID, sealKey []byte, inForce uint64, now time.Time) (*Issued, error) {
	settings, err := m.Effective(ctx, id)
	if err != nil {
		return nil, err
	}
	point, err := ecdh.P256().NewPublicKey(sealKey)
	if err != nil {
		return nil, fmt.Errorf("seal key of %s: %w", id, err)
	}
	recipient, err := hpke.NewDHKEMPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("seal key of %s: %w", id, err)
	}
	content, err := digest(settings, m.cfg.CAs, sealKey)
	if err != nil {
		return nil, err
	}
	result := new(Issued)
	err = m.cfg.Store.UpdateIssued(ctx, id, func(last *Issued) error {
		if last.Content != content || last.Version < inForce {
			cfg, err := settings.render(id, max(last.Version, inForce)+1, now, m.cfg.CAs)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrIncomplete, err)
			}
			sealed, err := lock.Seal(cfg, m.cfg.Signer, m.cfg.Certificate, recipient)
			if err != nil {
				return err
			}
			*last = Issued{cfg.Version, content, sealed}
		}
		*result = *last
		return nil
	})
	return result, err
}

func digest(parts ...any) (string, error) {
	text, err := json.Marshal(append(parts, lock.Schema))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
