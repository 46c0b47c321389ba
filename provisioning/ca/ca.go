// Package ca issues the owner's certificates from a crypto.Signer. It decides
// nothing about who deserves one, and keeps no list of what it issued.
//
// Profiles: package wire/device; RFC 5280; CA/B-style serial numbers of 128
// random bits.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/lock"
)

// backdate lets a peer whose clock is a little behind accept a new
// certificate.
const backdate = 5 * time.Minute

// CA is one authority. Safe for concurrent use when its signer is.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// New checks that key is the key of cert and that cert may issue.
func New(cert *x509.Certificate, key crypto.Signer) (*CA, error) {
	if cert == nil || key == nil {
		return nil, errors.New("certification authority without certificate or key")
	}
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("certificate of %q does not belong to its key", cert.Subject.CommonName)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("certificate of %q may not issue certificates", cert.Subject.CommonName)
	}
	return &CA{cert, key}, nil
}

// NewRoot makes a self-signed authority for key.
func NewRoot(name string, key crypto.Signer, now time.Time, lifetime time.Duration) (*CA, error) {
	template, err := base(pkix.Name{CommonName: name}, key.Public(), now, lifetime)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority %q: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return New(cert, key)
}

// Certificate is the authority's own; do not change it.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// Pool holds only this authority.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// Management issues a phone's management LDevID.
func (c *CA) Management(id device.ID, pub crypto.PublicKey, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	return c.ldevid(id, pub, now, lifetime, []*url.URL{id.URN()})
}

// SIP issues a phone's SIP LDevID: the SIP URI stands first.
func (c *CA) SIP(id device.ID, domain string, pub crypto.PublicKey, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	return c.ldevid(id, pub, now, lifetime, []*url.URL{id.SIPURI(domain), id.URN()})
}

func (c *CA) ldevid(id device.ID, pub crypto.PublicKey, now time.Time, lifetime time.Duration, uris []*url.URL) (*x509.Certificate, error) {
	template, err := base(pkix.Name{CommonName: string(id)}, pub, now, lifetime)
	if err != nil {
		return nil, err
	}
	template.URIs = uris
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return c.issue(template, pub)
}

// Server issues a TLS server certificate for names and addresses.
func (c *CA) Server(names []string, pub crypto.PublicKey, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	if len(names) == 0 {
		return nil, errors.New("server certificate without a name")
	}
	template, err := base(pkix.Name{CommonName: names[0]}, pub, now, lifetime)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return c.issue(template, pub)
}

// ConfigSigner issues the certificate of the one key that may sign
// configurations.
func (c *CA) ConfigSigner(pub crypto.PublicKey, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	template, err := base(pkix.Name{CommonName: lock.SignerName}, pub, now, lifetime)
	if err != nil {
		return nil, err
	}
	return c.issue(template, pub)
}

// Admin issues an operator's client certificate.
func (c *CA) Admin(name string, pub crypto.PublicKey, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	template, err := base(pkix.Name{CommonName: name}, pub, now, lifetime)
	if err != nil {
		return nil, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return c.issue(template, pub)
}

// CRL lists revoked serial numbers; number must grow with each list
// (RFC 5280, 5.2.3).
func (c *CA) CRL(number *big.Int, revoked []x509.RevocationListEntry, now time.Time, lifetime time.Duration) ([]byte, error) {
	return x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: number, RevokedCertificateEntries: revoked,
		ThisUpdate: now, NextUpdate: now.Add(lifetime)}, c.cert, c.key)
}

func (c *CA) issue(template *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	if template.NotAfter.After(c.cert.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %q: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func base(subject pkix.Name, pub crypto.PublicKey, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key for %q is not ECDSA P-256", subject.CommonName)
	}
	if lifetime <= 0 {
		return nil, fmt.Errorf("lifetime %s for %q", lifetime, subject.CommonName)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	point, err := key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("key for %q: %w", subject.CommonName, err)
	}
	id := sha1.Sum(point) // RFC 5280, 4.2.1.2 method 1: a label, not a protection
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: now.Add(-backdate).UTC(), NotAfter: now.Add(lifetime).UTC(),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, SubjectKeyId: id[:]}, nil
}
