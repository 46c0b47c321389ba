package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"ringfence/provisioning/wire/device"
)

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestProfiles(t *testing.T) {
	now := time.Now()
	key := newKey(t, elliptic.P256())
	root, err := NewRoot("management", key, now, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	sip, err := root.SIP("RF-0001", "ringfence.test", &key.PublicKey, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got := sip.URIs[0].String(); got != "sip:RF-0001@ringfence.test" {
		t.Errorf("first URI = %q", got)
	}
	if id, err := device.FromCertificate(sip); id != "RF-0001" || err != nil {
		t.Errorf("FromCertificate = %q, %v", id, err)
	}
	if _, err := sip.Verify(x509.VerifyOptions{Roots: root.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if _, err := sip.Verify(x509.VerifyOptions{Roots: root.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a client certificate is good for a server")
	}
	if long, err := root.Management("RF-0001", &key.PublicKey, now, 48*time.Hour); err != nil || long.NotAfter.After(root.Certificate().NotAfter) {
		t.Errorf("a certificate outlives its authority: %v", err)
	}
	crl, err := root.CRL(big.NewInt(7), nil, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := x509.ParseRevocationList(crl); err != nil || list.Number.Int64() != 7 {
		t.Errorf("CRL: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	now := time.Now()
	key, p384 := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	root, err := NewRoot("root", key, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := root.Admin("ann", &key.PublicKey, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(leaf, key); err == nil {
		t.Error("a leaf certificate may issue")
	}
	if _, err := New(root.Certificate(), newKey(t, elliptic.P256())); err == nil {
		t.Error("a foreign key may issue")
	}
	if _, err := New(nil, nil); err == nil {
		t.Error("an authority without key")
	}
	if _, err := root.Management("RF-0001", &p384.PublicKey, now, time.Hour); err == nil {
		t.Error("a P-384 key was certified")
	}
	if _, err := root.Management("RF-0001", &key.PublicKey, now, 0); err == nil {
		t.Error("a lifetime of 0 was certified")
	}
}
