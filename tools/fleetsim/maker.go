package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/factory"
	"ringfence/provisioning/wire/release"
)

// model of every simulated phone; no real board has it.
const model device.Model = "fleetsim"

// maker is a manufacturer of simulated phones.
type maker struct {
	name         string
	key, release *ecdsa.PrivateKey
	anchor       *x509.Certificate
}

func newMaker(name string) (*maker, error) {
	m := &maker{name: name}
	for _, target := range []**ecdsa.PrivateKey{&m.key, &m.release} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		*target = key
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Minute),
		NotAfter: now.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, m.key.Public(), m.key)
	if err != nil {
		return nil, fmt.Errorf("make device CA: %w", err)
	}
	m.anchor, err = x509.ParseCertificate(der)
	return m, err
}

// endorsement is what an owner adds to trust this maker.
func (m *maker) endorsement() (*trust.Manufacturer, error) {
	pub, err := x509.MarshalPKIXPublicKey(m.release.Public())
	return &trust.Manufacturer{Name: m.name, ReleaseKey: pub, Anchors: [][]byte{m.anchor.Raw}}, err
}

// boot is what a simulated phone measures when it runs version.
func boot(version string) appraisetest.Boot {
	b := appraisetest.Good()
	b.Kernel = "kernel of " + version
	return b
}

// reference returns the signed reference values of version.
func (m *maker) reference(version string) (json.RawMessage, error) {
	ref := appraisetest.Reference(boot(version), version)
	ref.Model = model
	return release.SignReference(ref, m.release)
}

// build makes n phones with their IDevIDs, and the manifest that lists them.
func (m *maker) build(n int) ([]*phone, *factory.Manifest, error) {
	manifest := &factory.Manifest{Manufacturer: m.name, Created: time.Now(), Anchors: [][]byte{m.anchor.Raw}}
	phones := make([]*phone, n)
	for i := range phones {
		p, unit, err := m.unit(device.ID(fmt.Sprintf("SIM-%05d", i+1)), int64(i+2))
		if err != nil {
			return nil, nil, fmt.Errorf("make phone %d: %w", i+1, err)
		}
		phones[i] = p
		manifest.Units = append(manifest.Units, unit)
	}
	return phones, manifest, nil
}

const useIDevID = "idevid"

func (m *maker) unit(id device.ID, serial int64) (*phone, factory.Unit, error) {
	tpm, err := appraisetest.NewSoftware(useIDevID, evidence.UseManagement, evidence.UseSeal)
	if err != nil {
		return nil, factory.Unit{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: device.Subject(id, model), URIs: []*url.URL{id.URN()},
		NotBefore: m.anchor.NotBefore, NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), KeyUsage: x509.KeyUsageDigitalSignature}
	key := tpm.Keys[useIDevID]
	der, err := x509.CreateCertificate(rand.Reader, template, m.anchor, key.PrivateKey.Public(), m.key)
	if err != nil {
		return nil, factory.Unit{}, err
	}
	p := &phone{id: id, tpm: tpm, idevid: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key.PrivateKey}}
	return p, factory.Unit{Device: id, Model: model, AK: tpm.AK(), IDevID: sha256.Sum256(der)}, nil
}
