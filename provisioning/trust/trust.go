// Package trust keeps what the owner believes about manufacturers: their
// release keys, the anchors of their IDevIDs, and the reference values and
// shipping manifests that these keys signed. It makes no keys.
//
// Specifications: DSSE 1.0, IEEE 802.1AR, RFC 9334 (endorsements, reference
// values).
package trust

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/factory"
	"ringfence/provisioning/wire/release"
)

// ErrUnknown reports a manufacturer that was not added.
var ErrUnknown = errors.New("manufacturer is not known: add it first")

// Manufacturer is one trusted maker of phones.
type Manufacturer struct {
	Name       string   `json:"name"`
	ReleaseKey []byte   `json:"release_key"` // DER SubjectPublicKeyInfo, ECDSA P-256
	Anchors    [][]byte `json:"anchors"`     // DER, CAs of its IDevIDs
}

// Reference is one stored, signed set of reference values.
type Reference struct {
	Model        device.Model    `json:"model"`
	Release      string          `json:"release"`
	Manufacturer string          `json:"manufacturer"`
	Envelope     json.RawMessage `json:"envelope"`
}

// Store keeps manufacturers and references durably.
type Store interface {
	Manufacturers(ctx context.Context) ([]*Manufacturer, error)
	PutManufacturer(ctx context.Context, m *Manufacturer) error
	References(ctx context.Context, model device.Model) ([]*Reference, error) // "" for all
	PutReference(ctx context.Context, r *Reference) error
}

// Trust verifies against what its store holds. Safe for concurrent use.
type Trust struct {
	store Store

	mu       sync.Mutex
	verified map[[sha256.Size]byte]*release.Reference // by digest of key and envelope
}

// maxVerified bounds what is remembered of verified references.
const maxVerified = 64

// New refuses a missing store.
func New(store Store) (*Trust, error) {
	if store == nil {
		return nil, errors.New("trust without a store")
	}
	return &Trust{store: store, verified: make(map[[sha256.Size]byte]*release.Reference)}, nil
}

// Add checks and stores m.
func (t *Trust) Add(ctx context.Context, m *Manufacturer) error {
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$`).MatchString(m.Name) {
		return fmt.Errorf("manufacturer name %q: want 1 to 64 letters, digits, spaces, '.', '_' or '-'", m.Name)
	}
	if _, err := m.key(); err != nil {
		return fmt.Errorf("manufacturer %s: %w", m.Name, err)
	}
	if _, err := m.pool(); err != nil {
		return fmt.Errorf("manufacturer %s: %w", m.Name, err)
	}
	return t.store.PutManufacturer(ctx, m)
}

// Manufacturers lists them.
func (t *Trust) Manufacturers(ctx context.Context) ([]*Manufacturer, error) {
	return t.store.Manufacturers(ctx)
}

// ImportReference stores reference values that one of the manufacturers
// signed. A release that is stored already is never changed.
func (t *Trust) ImportReference(ctx context.Context, envelope []byte) (*release.Reference, error) {
	all, err := t.store.Manufacturers(ctx)
	if err != nil {
		return nil, err
	}
	reason := ErrUnknown
	for _, m := range all {
		ref, err := m.verifyReference(envelope)
		if err != nil {
			reason = err
			continue
		}
		compact := new(bytes.Buffer)
		if err := json.Compact(compact, envelope); err != nil {
			return nil, err
		}
		return ref, t.store.PutReference(ctx, &Reference{ref.Model, ref.Release, m.Name, compact.Bytes()})
	}
	return nil, fmt.Errorf("reference values: %w", reason)
}

// References returns the verified values of model, which the caller must not
// change. A signature is checked again whenever the stored bytes or the key
// are not the ones it was checked for, so that a changed database cannot let a
// phone in.
func (t *Trust) References(ctx context.Context, manufacturer string, model device.Model) ([]*release.Reference, error) {
	m, err := t.find(ctx, manufacturer)
	if err != nil {
		return nil, err
	}
	stored, err := t.store.References(ctx, model)
	if err != nil {
		return nil, err
	}
	var refs []*release.Reference
	for _, s := range stored {
		if s.Manufacturer != manufacturer {
			continue
		}
		ref, err := t.verify(m, s.Envelope)
		if err != nil {
			return nil, fmt.Errorf("stored release %s of %s: %w", s.Release, model, err)
		}
		if ref.Model == model {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// verify is m.verifyReference, remembered by digest.
func (t *Trust) verify(m *Manufacturer, envelope []byte) (*release.Reference, error) {
	key := sha256.Sum256(m.ReleaseKey)
	digest := sha256.Sum256(append(key[:], envelope...))
	t.mu.Lock()
	ref := t.verified[digest]
	t.mu.Unlock()
	if ref != nil {
		return ref, nil
	}
	ref, err := m.verifyReference(envelope)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.verified) >= maxVerified {
		clear(t.verified)
	}
	t.verified[digest] = ref
	return ref, nil
}

// Stored lists what was imported, without its content.
func (t *Trust) Stored(ctx context.Context) ([]*Reference, error) { return t.store.References(ctx, "") }

// VerifyIDevID checks the chain of an IDevID against the anchors of its
// manufacturer. It has no expiry that matters (802.1AR 8.7), and names no
// extended key usage.
func (t *Trust) VerifyIDevID(ctx context.Context, manufacturer string, chain []*x509.Certificate) error {
	m, err := t.find(ctx, manufacturer)
	if err != nil {
		return err
	}
	roots, err := m.pool()
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("IDevID is not by manufacturer %s: %w", manufacturer, err)
	}
	return nil
}

// VerifyManifest decodes a shipping manifest. In a DSSE envelope it must be
// signed by the release key of the manufacturer it names; bare, the operator
// vouches for it (signed is false). Its anchors must be known ones.
func (t *Trust) VerifyManifest(ctx context.Context, raw []byte) (m *factory.Manifest, signed bool, err error) {
	var env dsse.Envelope
	payload := raw
	if err := json.Unmarshal(raw, &env); err == nil && env.PayloadType != "" {
		if env.PayloadType != factory.ManifestType {
			return nil, false, fmt.Errorf("payload type %q, want %q", env.PayloadType, factory.ManifestType)
		}
		if payload, err = env.DecodeB64Payload(); err != nil {
			return nil, false, fmt.Errorf("shipping manifest: %w", err)
		}
		signed = true
	}
	if m, err = factory.ParseManifest(payload); err != nil {
		return nil, false, err
	}
	maker, err := t.find(ctx, m.Manufacturer)
	if err != nil {
		return nil, false, err
	}
	if signed {
		if err := maker.verify(ctx, &env); err != nil {
			return nil, false, fmt.Errorf("shipping manifest: %w", err)
		}
	}
	for _, anchor := range m.Anchors {
		if !contains(maker.Anchors, anchor) {
			return nil, false, fmt.Errorf("shipping manifest of %s names an anchor that is not among its known ones", maker.Name)
		}
	}
	return m, signed, nil
}

func (t *Trust) find(ctx context.Context, name string) (*Manufacturer, error) {
	all, err := t.store.Manufacturers(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%q: %w", name, ErrUnknown)
}

func (m *Manufacturer) key() (*ecdsa.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(m.ReleaseKey)
	if err != nil {
		return nil, fmt.Errorf("parse release key: %w", err)
	}
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("release key is %T, want ECDSA", key)
	}
	return pub, nil
}

func (m *Manufacturer) pool() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, der := range m.Anchors {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse anchor: %w", err)
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("anchor %q is not a CA", cert.Subject.CommonName)
		}
		pool.AddCert(cert)
	}
	if len(m.Anchors) == 0 {
		return nil, errors.New("no anchor")
	}
	return pool, nil
}

func (m *Manufacturer) verifyReference(envelope []byte) (*release.Reference, error) {
	key, err := m.key()
	if err != nil {
		return nil, err
	}
	return release.VerifyReference(envelope, key)
}

func (m *Manufacturer) verify(ctx context.Context, env *dsse.Envelope) error {
	key, err := m.key()
	if err != nil {
		return err
	}
	v, err := dsse.NewEnvelopeVerifier(releaseKey{key})
	if err != nil {
		return err
	}
	_, err = v.Verify(ctx, env)
	return err
}

type releaseKey struct{ *ecdsa.PublicKey }

func (k releaseKey) Verify(_ context.Context, data, sig []byte) error {
	digest := sha256.Sum256(data)
	if !ecdsa.VerifyASN1(k.PublicKey, digest[:], sig) {
		return errors.New("signature is not by the release key")
	}
	return nil
}

func (k releaseKey) KeyID() (string, error)   { return dsse.SHA256KeyID(k.PublicKey) }
func (k releaseKey) Public() crypto.PublicKey { return k.PublicKey }

func contains(list [][]byte, item []byte) bool {
	for _, entry := range list {
		if bytes.Equal(entry, item) {
			return true
		}
	}
	return false
}
