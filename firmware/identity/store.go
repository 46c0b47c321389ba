package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"ringfence/firmware/state"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/factory"
)

const (
	factoryFile = "factory.json"
	ownerFile   = "owner.cms"
	maxFile     = 64 << 10 // bytes
)

// Factory is what the factory gave the phone; it never changes afterwards.
type Factory struct {
	Device  device.ID
	IDevID  [][]byte // DER chain, leaf first
	Anchors []*x509.Certificate
}

// Install checks and stores what the factory station sent. The certificate
// must be for this phone's IDevID key and chain to one of the anchors. A phone
// that has an identity accepts only the same one again.
func Install(dir string, keys *Keys, m *factory.Install) (*Factory, error) {
	f, err := checkInstall(m, keys)
	if err != nil {
		return nil, fmt.Errorf("install IDevID: %w", err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, factoryFile)
	old, err := state.Read(path, maxFile)
	switch {
	case err == nil && !bytes.Equal(old, raw):
		return nil, errors.New("install IDevID: this phone has an identity already")
	case err == nil:
		return f, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return f, state.Write(path, raw)
}

// LoadFactory returns what Install stored, checked again; ErrNone when the
// phone was never in the factory.
func LoadFactory(dir string, keys *Keys) (*Factory, error) {
	raw, err := state.Read(filepath.Join(dir, factoryFile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load IDevID: %w", ErrNone)
	}
	if err != nil {
		return nil, err
	}
	m := new(factory.Install)
	if err := wire.DecodeStrict(raw, maxFile, m); err != nil {
		return nil, fmt.Errorf("decode %s: %w", factoryFile, err)
	}
	f, err := checkInstall(m, keys)
	if err != nil {
		return nil, fmt.Errorf("load IDevID: %w", err)
	}
	return f, nil
}

func checkInstall(m *factory.Install, keys *Keys) (*Factory, error) {
	if len(m.IDevID) == 0 || len(m.IDevID) > 4 || len(m.Anchors) == 0 || len(m.Anchors) > 4 {
		return nil, fmt.Errorf("%d certificates and %d anchors, want 1 to 4 each", len(m.IDevID), len(m.Anchors))
	}
	leaf, err := checkLeaf(m.IDevID, keys, useIDevID, m.Device)
	if err != nil {
		return nil, err
	}
	f := &Factory{Device: m.Device, IDevID: m.IDevID}
	roots := x509.NewCertPool()
	for i, der := range m.Anchors {
		anchor, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("anchor %d: %w", i, err)
		}
		roots.AddCert(anchor)
		f.Anchors = append(f.Anchors, anchor)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool(m.IDevID[1:]), CurrentTime: clockless(leaf, f.Anchors),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("IDevID: %w", err)
	}
	return f, nil
}

// clockless is when a chain is judged by a phone without trusted time (R19):
// the first moment at which the leaf and all anchors were valid.
func clockless(leaf *x509.Certificate, anchors []*x509.Certificate) time.Time {
	at := leaf.NotBefore
	for _, anchor := range anchors {
		if anchor.NotBefore.After(at) {
			at = anchor.NotBefore
		}
	}
	return at
}

// checkLeaf parses the first certificate of a chain and checks that it names
// id and carries this phone's key.
func checkLeaf(chain [][]byte, keys *Keys, use string, id device.ID) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("empty certificate chain")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse %s certificate: %w", use, err)
	}
	signer, err := keys.Signer(use)
	if err != nil {
		return nil, err
	}
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !signer.pub.Equal(pub) {
		return nil, fmt.Errorf("%s certificate is for another key", use)
	}
	named, err := device.FromCertificate(leaf)
	if err != nil {
		return nil, err
	}
	if named != id {
		return nil, fmt.Errorf("%s certificate names %s, this is %s", use, named, id)
	}
	return leaf, nil
}

func pool(ders [][]byte) *x509.CertPool {
	p := x509.NewCertPool()
	for _, der := range ders {
		if cert, err := x509.ParseCertificate(der); err == nil { // what does not parse cannot help a chain
			p.AddCert(cert)
		}
	}
	return p
}

// StoreVoucher keeps a voucher that VerifyVoucher accepted.
func StoreVoucher(dir string, cms []byte) error {
	return state.Write(filepath.Join(dir, ownerFile), cms)
}

// LoadOwner verifies the stored voucher again and returns the owner's CA;
// ErrNone when the phone has no owner.
func LoadOwner(dir string, f *Factory) (*x509.Certificate, error) {
	cms, err := state.Read(filepath.Join(dir, ownerFile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load owner: %w", ErrNone)
	}
	if err != nil {
		return nil, err
	}
	return VerifyVoucher(cms, f, time.Time{}) // it was fresh when it was accepted
}

// Credential is one certificate of the phone with its key.
type Credential struct {
	Chain  [][]byte // DER, leaf first
	Leaf   *x509.Certificate
	Signer *Signer
}

// RenewAt is when renewal starts: at 45 % of the certificate's life, before
// its half-life.
func (c *Credential) RenewAt() time.Time {
	return c.Leaf.NotBefore.Add(c.Leaf.NotAfter.Sub(c.Leaf.NotBefore) * 45 / 100)
}

// Slot holds the phone's certificate of one label in two files: the one in
// force and a candidate that has not proved itself yet (R20).
type Slot struct {
	dir   string
	label enroll.Label
	keys  *Keys
	id    device.ID
}

// NewSlot returns the slot of label in dir.
func NewSlot(dir string, label enroll.Label, keys *Keys, id device.ID) (*Slot, error) {
	if dir == "" || keys == nil || label != enroll.Management && label != enroll.SIP {
		return nil, fmt.Errorf("certificate slot %q: no directory, keys or such label", label)
	}
	return &Slot{dir: dir, label: label, keys: keys, id: id}, nil
}

func (s *Slot) path(kind string) string {
	return filepath.Join(s.dir, string(s.label)+"."+kind+".json")
}

// Propose stores a candidate. The one in force stays.
func (s *Slot) Propose(chain [][]byte) (*Credential, error) {
	c, err := s.credential(chain)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(chain)
	if err != nil {
		return nil, err
	}
	return c, state.Write(s.path("next"), raw)
}

// Commit puts the candidate in force, after the server accepted it.
func (s *Slot) Commit() error {
	if err := state.Rename(s.path("next"), s.path("current")); err != nil {
		return fmt.Errorf("switch %s certificate: %w", s.label, err)
	}
	return nil
}

// Current returns the certificate in force; ErrNone when there is none.
func (s *Slot) Current() (*Credential, error) {
	raw, err := state.Read(s.path("current"), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s certificate: %w", s.label, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	if err := wire.DecodeStrict(raw, maxFile, &chain); err != nil {
		return nil, fmt.Errorf("decode %s certificate: %w", s.label, err)
	}
	return s.credential(chain)
}

func (s *Slot) credential(chain [][]byte) (*Credential, error) {
	leaf, err := checkLeaf(chain, s.keys, string(s.label), s.id)
	if err != nil {
		return nil, err
	}
	signer, err := s.keys.Signer(string(s.label))
	if err != nil {
		return nil, err
	}
	return &Credential{Chain: chain, Leaf: leaf, Signer: signer}, nil
}

// Credential returns the factory's certificate as a credential.
func (f *Factory) Credential(keys *Keys) (*Credential, error) {
	leaf, err := checkLeaf(f.IDevID, keys, useIDevID, f.Device)
	if err != nil {
		return nil, err
	}
	signer, err := keys.Signer(useIDevID)
	if err != nil {
		return nil, err
	}
	return &Credential{Chain: f.IDevID, Leaf: leaf, Signer: signer}, nil
}
