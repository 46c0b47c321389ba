package factory

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/smallstep/pkcs7"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
)

// Manufacturer issues IDevIDs and vouchers.
type Manufacturer struct {
	CA         *x509.Certificate // device CA
	CAKey      crypto.Signer
	Voucher    *x509.Certificate // voucher signer, issued by CA
	VoucherKey crypto.Signer
}

// LoadManufacturer reads device-ca.{key,pem} and voucher.{key,pem} of a
// manufacturer directory.
func LoadManufacturer(dir string) (*Manufacturer, error) {
	m := new(Manufacturer)
	var err error
	if m.CA, m.CAKey, err = loadPair(dir, "device-ca"); err != nil {
		return nil, err
	}
	if !m.CA.IsCA {
		return nil, errors.New("device-ca.pem is not a CA certificate")
	}
	if m.Voucher, m.VoucherKey, err = loadPair(dir, "voucher"); err != nil {
		return nil, err
	}
	return m, nil
}

func loadPair(dir, name string) (*x509.Certificate, crypto.Signer, error) {
	certs, err := LoadCertificates(filepath.Join(dir, name+".pem"))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: make the directory with `ringfence manufacturer init`", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, nil, fmt.Errorf("%s.key: want a PKCS #8 private key in PEM", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s.key: %w", name, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || !signer.PublicKey.Equal(certs[0].PublicKey) {
		return nil, nil, fmt.Errorf("%s.key does not belong to %s.pem", name, name)
	}
	return certs[0], signer, nil
}

// LoadCertificates reads a PEM file with at least one certificate.
func LoadCertificates(path string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: no certificates", path)
	}
	return certs, nil
}

// IssueIDevID certifies key as the phone id (802.1AR 8; wire/device): it does
// not expire, and the DER is returned.
func (m *Manufacturer) IssueIDevID(id device.ID, model device.Model, key *ecdsa.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	start := time.Now().Add(-time.Hour) // for verifiers whose clock is a little behind
	if start.Before(m.CA.NotBefore) {
		start = m.CA.NotBefore
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      device.Subject(id, model),
		URIs:         []*url.URL{id.URN()},
		NotBefore:    start.UTC().Truncate(time.Second),
		// RFC 5280 4.1.2.5: no well-defined expiration date.
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, m.CA, key, m.CAKey)
	if err != nil {
		return nil, fmt.Errorf("issue IDevID of %s: %w", id, err)
	}
	return der, nil
}

// IssueVoucher returns the CMS voucher that gives the phone id to the owner
// (RFC 8366 section 5.4).
func (m *Manufacturer) IssueVoucher(id device.ID, owner *x509.Certificate, now time.Time) ([]byte, error) {
	if owner == nil || !owner.IsCA {
		return nil, errors.New("issue voucher: the owner's certificate is not a CA")
	}
	content, err := enroll.Voucher{CreatedOn: now.UTC(), Assertion: "verified", SerialNumber: id,
		PinnedDomainCert: owner.Raw}.MarshalJSONDocument()
	if err != nil {
		return nil, err
	}
	signed, err := pkcs7.NewSignedData(content)
	if err != nil {
		return nil, err
	}
	signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	signed.GetSignedData().ContentInfo.ContentType = animaVoucher()
	if err := signed.AddSigner(m.Voucher, m.VoucherKey, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fmt.Errorf("sign voucher of %s: %w", id, err)
	}
	return signed.Finish()
}

// animaVoucher is id-ct-animaJSONVoucher (RFC 8366 section 8.4).
func animaVoucher() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 40}
}
