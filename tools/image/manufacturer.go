package image

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"ringfence/provisioning/wire/enroll"
)

// Manufacturer is a folder with a manufacturer's keys, made by
// [InitManufacturer]:
//
//	secureboot/{PK,KEK,db}.{key,crt}  RSA-2048, UEFI Secure Boot
//	release.{key,pub}                 ECDSA P-256, signs reference values and manifests
//	device-ca.{key,pem}               issues IDevIDs
//	voucher.{key,pem}                 signs vouchers, issued by device-ca
type Manufacturer string

// noExpiry is the notAfter of certificates without an end (RFC 5280 4.1.2.5).
var noExpiry = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// InitManufacturer makes a folder of new keys, for laboratories and tests: a
// real manufacturer keeps them in a security module. It refuses a folder that
// has keys already.
func InitManufacturer(dir string, name string, now time.Time) error {
	if name == "" {
		return errors.New("a manufacturer needs a name")
	}
	if _, err := os.Stat(filepath.Join(dir, "release.key")); err == nil {
		return fmt.Errorf("%s has manufacturer keys already; they are not replaced", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "secureboot"), 0o700); err != nil {
		return err
	}
	m := Manufacturer(dir)
	for _, part := range []string{"PK", "KEK", "db"} {
		if err := m.newSecureBootKey(part, name, now); err != nil {
			return err
		}
	}
	if err := m.newDeviceCA(name, now); err != nil {
		return err
	}
	return m.newReleaseKey()
}

func (m Manufacturer) path(parts ...string) string {
	return filepath.Join(append([]string{string(m)}, parts...)...)
}

func template(commonName, organization string, now time.Time) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName, Organization: []string{organization}},
		NotBefore: now.Add(-time.Hour).UTC().Truncate(time.Second), NotAfter: noExpiry, BasicConstraintsValid: true,
	}
}

func (m Manufacturer) newSecureBootKey(part, name string, now time.Time) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	t := template(name+" Secure Boot "+part, name, now)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return fmt.Errorf("certify %s: %w", part, err)
	}
	if err := writePEM(m.path("secureboot", part+".crt"), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	return writeKey(m.path("secureboot", part+".key"), key)
}

func (m Manufacturer) newDeviceCA(name string, now time.Time) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := template(name+" device CA", name, now)
	ca.IsCA, ca.MaxPathLenZero, ca.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return fmt.Errorf("certify the device CA: %w", err)
	}
	issuer, err := x509.ParseCertificate(caDER)
	if err != nil {
		return err
	}
	voucherKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	v := template(enroll.VoucherSigner, name, now)
	v.KeyUsage = x509.KeyUsageDigitalSignature
	voucherDER, err := x509.CreateCertificate(rand.Reader, v, issuer, voucherKey.Public(), caKey)
	if err != nil {
		return fmt.Errorf("certify the voucher signer: %w", err)
	}
	return errors.Join(
		writePEM(m.path("device-ca.pem"), "CERTIFICATE", caDER, 0o644), writeKey(m.path("device-ca.key"), caKey),
		writePEM(m.path("voucher.pem"), "CERTIFICATE", voucherDER, 0o644), writeKey(m.path("voucher.key"), voucherKey))
}

func (m Manufacturer) newReleaseKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(m.path("release.pub"), "PUBLIC KEY", pub, 0o644); err != nil {
		return err
	}
	return writeKey(m.path("release.key"), key)
}

// ReleaseKey reads the private key that signs reference values.
func (m Manufacturer) ReleaseKey() (crypto.Signer, error) {
	der, err := readPEM(m.path("release.key"), "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.path("release.key"), err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s is no ECDSA P-256 key", m.path("release.key"))
	}
	return ec, nil
}

// SecureBoot reads the Secure Boot certificates.
func (m Manufacturer) SecureBoot() (c SecureBootCertificates, err error) {
	for _, part := range []struct {
		name string
		der  *[]byte
	}{{"PK", &c.PK}, {"KEK", &c.KEK}, {"db", &c.DB}} {
		path := m.path("secureboot", part.name+".crt")
		if *part.der, err = readPEM(path, "CERTIFICATE"); err != nil {
			return c, err
		}
		if _, err = x509.ParseCertificate(*part.der); err != nil {
			return c, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return c, nil
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return writeAtomic(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

func writeKey(path string, key any) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600)
}

func readPEM(path, kind string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w (make keys with: ringfence manufacturer init DIR)", err)
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != kind || len(rest) != 0 {
		return nil, fmt.Errorf("%s: want exactly one PEM block of type %s", path, kind)
	}
	return block.Bytes, nil
}
