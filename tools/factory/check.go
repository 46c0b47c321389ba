package factory

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/google/go-tpm/tpm2"

	wire "ringfence/provisioning/wire/factory"
)

// phone is what checkIdentity accepted.
type phone struct {
	ek     *tpm2.TPMTPublic
	akName []byte           // TPM2B_NAME contents
	key    *ecdsa.PublicKey // the IDevID key
}

// checkIdentity judges everything about an Identity that the station can judge
// by itself; that EK and AK are in one TPM is proved by activation.
func checkIdentity(shown *wire.Identity, nonce []byte, roots []*x509.Certificate) (*phone, error) {
	if shown.Model == "" || len(shown.EventLog) == 0 {
		return nil, errors.New("the phone names no model, or its boot measured nothing")
	}
	ek, err := parse[tpm2.TPMTPublic](shown.EKPublic)
	if err != nil {
		return nil, fmt.Errorf("endorsement key: %w", err)
	}
	if err := checkEK(ek, shown.EKCerts, roots); err != nil {
		return nil, fmt.Errorf("endorsement key: %w", err)
	}
	ak, err := parse[tpm2.TPMTPublic](shown.AK)
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	akKey, err := checkAK(ak)
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	name, err := tpm2.ObjectName(ak)
	if err != nil {
		return nil, err
	}
	key, err := checkKey(shown, akKey, nonce)
	if err != nil {
		return nil, fmt.Errorf("IDevID key: %w", err)
	}
	return &phone{ek: ek, akName: name.Buffer, key: key}, nil
}

// parse decodes a TPM structure that fills raw exactly. The library panics on
// some malformed input, which here is a stranger's.
func parse[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](raw []byte) (v *T, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, fmt.Errorf("malformed: %v", p)
		}
	}()
	if v, err = tpm2.Unmarshal[T, P](raw); err != nil {
		return nil, err
	}
	if !bytes.Equal(tpm2.Marshal(*v), raw) {
		return nil, errors.New("not in canonical form")
	}
	return v, nil
}

func resident(a tpm2.TPMAObject) bool { return a.FixedTPM && a.FixedParent && a.SensitiveDataOrigin }

func ecdsaKey(public *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	if public.Type != tpm2.TPMAlgECC || public.NameAlg != tpm2.TPMAlgSHA256 {
		return nil, errors.New("not an ECC key with SHA-256 names")
	}
	parms, err := public.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, err
	}
	if parms.CurveID != tpm2.TPMECCNistP256 {
		return nil, errors.New("not on P-256")
	}
	return tpm2.ECDSAPub(parms, point)
}

func checkAK(ak *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	a := ak.ObjectAttributes
	if !resident(a) || !a.Restricted || !a.SignEncrypt || a.Decrypt {
		return nil, errors.New("not a restricted signing key that is fixed to its TPM")
	}
	return ecdsaKey(ak)
}

// checkKey checks TPM2_Certify of the IDevID key by the attestation key over
// our nonce (TPM 2.0 part 3, 18.2).
func checkKey(shown *wire.Identity, ak *ecdsa.PublicKey, nonce []byte) (*ecdsa.PublicKey, error) {
	if shown.Key.Use != wire.UseIDevID {
		return nil, fmt.Errorf("certified for %q, want %q", shown.Key.Use, wire.UseIDevID)
	}
	public, err := parse[tpm2.TPMTPublic](shown.Key.Public)
	if err != nil {
		return nil, err
	}
	if a := public.ObjectAttributes; !resident(a) || a.Restricted || !a.SignEncrypt || a.Decrypt {
		return nil, errors.New("not a plain signing key that is fixed to its TPM")
	}
	if err := checkSignature(shown.Key.Certify, shown.Key.Signature, ak); err != nil {
		return nil, err
	}
	attest, err := parse[tpm2.TPMSAttest](shown.Key.Certify)
	if err != nil {
		return nil, err
	}
	if attest.Magic != tpm2.TPMGeneratedValue || attest.Type != tpm2.TPMSTAttestCertify {
		return nil, errors.New("not a certification by a TPM")
	}
	if !bytes.Equal(attest.ExtraData.Buffer, nonce) {
		return nil, errors.New("certified over another nonce: replayed")
	}
	info, err := attest.Attested.Certify()
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(info.Name.Buffer, name.Buffer) {
		return nil, errors.New("the certification is for another key")
	}
	return ecdsaKey(public)
}

func checkSignature(data, signature []byte, ak *ecdsa.PublicKey) error {
	sig, err := parse[tpm2.TPMTSignature](signature)
	if err != nil {
		return err
	}
	pair, err := sig.Signature.ECDSA()
	if err != nil || pair.Hash != tpm2.TPMAlgSHA256 {
		return errors.New("signature is not ECDSA with SHA-256")
	}
	digest := sha256.Sum256(data)
	if !ecdsa.Verify(ak, digest[:], new(big.Int).SetBytes(pair.SignatureR.Buffer), new(big.Int).SetBytes(pair.SignatureS.Buffer)) {
		return errors.New("certification is not signed by the attestation key")
	}
	return nil
}

// tcg-kp-EKCertificate, and the subject alternative name that carries the
// TPM's maker and model (EK Credential Profile 2.5, 3.5.10 and 3.5.7).
func ekUsage() asn1.ObjectIdentifier        { return asn1.ObjectIdentifier{2, 23, 133, 8, 1} }
func subjectAltName() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 17} }

// checkEK checks that ek is template L-1 and that one of certs is for it and
// chains to roots (self-signed ones) through the others.
func checkEK(ek *tpm2.TPMTPublic, certs [][]byte, roots []*x509.Certificate) error {
	a := ek.ObjectAttributes
	if ek.Type != tpm2.TPMAlgRSA || !resident(a) || !a.Restricted || !a.Decrypt || a.SignEncrypt {
		return errors.New("not a restricted RSA decryption key that is fixed to its TPM")
	}
	public, err := tpm2.Pub(*ek)
	if err != nil {
		return err
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != 2048 {
		return errors.New("not RSA-2048")
	}
	if len(certs) == 0 || len(certs) > 4 {
		return fmt.Errorf("%d certificates, want 1 to 4", len(certs))
	}
	for _, der := range certs {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse certificate: %w", err)
		}
		if pub, ok := cert.PublicKey.(*rsa.PublicKey); ok && pub.Equal(key) {
			return verifyEKCert(cert, roots)
		}
	}
	return errors.New("no certificate is for this key")
}

func verifyEKCert(cert *x509.Certificate, anchors []*x509.Certificate) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, anchor := range anchors {
		if bytes.Equal(anchor.RawIssuer, anchor.RawSubject) {
			roots.AddCert(anchor)
		} else {
			between.AddCert(anchor)
		}
	}
	// The name is critical and has only a directoryName, which crypto/x509
	// leaves to the caller.
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, subjectAltName().Equal)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if cert.IsCA || !slices.ContainsFunc(cert.UnknownExtKeyUsage, ekUsage().Equal) {
		return errors.New("certificate is not an endorsement key certificate")
	}
	return nil
}
