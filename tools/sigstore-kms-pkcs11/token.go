//go:build cgo

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/miekg/pkcs11"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
)

const algorithm = "ecdsa-p256-sha256"

// maxMessage bounds a message to be signed, in bytes.
const maxMessage = 64 << 20

// tokenKey is one key in one token, by its label.
type tokenKey struct {
	module  *pkcs11.Ctx
	session pkcs11.SessionHandle
	label   string
}

var _ kms.SignerVerifier = (*tokenKey)(nil)

// open logs into the token; resource is TOKEN/LABEL.
func open(path, pin, resource string) (k *tokenKey, err error) {
	token, label, ok := strings.Cut(resource, "/")
	if !ok || token == "" || label == "" {
		return nil, fmt.Errorf("key %q: want pkcs11://TOKEN/LABEL", resource)
	}
	if path == "" || pin == "" {
		return nil, fmt.Errorf("set %s and %s", envModule, envPIN)
	}
	k = &tokenKey{module: pkcs11.New(path), label: label}
	if k.module == nil {
		return nil, fmt.Errorf("load PKCS#11 module %s", path)
	}
	if err := k.module.Initialize(); err != nil {
		return nil, fmt.Errorf("initialise PKCS#11: %w", err)
	}
	slot, err := k.slot(token)
	if err != nil {
		return nil, err
	}
	if k.session, err = k.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	if err := k.module.Login(k.session, pkcs11.CKU_USER, pin); err != nil {
		return nil, fmt.Errorf("log into token %s: %w", token, err)
	}
	return k, nil
}

// close ends the session; the process ends with it, so errors say nothing.
func (k *tokenKey) close() {
	_ = k.module.Logout(k.session)
	_ = k.module.CloseSession(k.session)
	_ = k.module.Finalize()
	k.module.Destroy()
}

func (k *tokenKey) slot(token string) (uint, error) {
	slots, err := k.module.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("list slots: %w", err)
	}
	for _, slot := range slots {
		if info, err := k.module.GetTokenInfo(slot); err == nil && info.Label == token {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("no token is labelled %q", token)
}

// find returns the one object of the class with the key's label.
func (k *tokenKey) find(class uint) (pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.label)}
	if err := k.module.FindObjectsInit(k.session, template); err != nil {
		return 0, err
	}
	found, _, err := k.module.FindObjects(k.session, 2)
	if err = errors.Join(err, k.module.FindObjectsFinal(k.session)); err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d keys are labelled %q, want one", len(found), k.label)
	}
	return found[0], nil
}

// PublicKey reads the public half.
func (k *tokenKey) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	object, err := k.find(pkcs11.CKO_PUBLIC_KEY)
	if err != nil {
		return nil, err
	}
	attributes, err := k.module.GetAttributeValue(k.session, object, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	var curve asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(attributes[0].Value, &curve); err != nil || len(rest) != 0 || !curve.Equal(p256()) {
		return nil, errors.New("the key is not on P-256")
	}
	var point []byte // an OCTET STRING around the point, PKCS#11 2.3.3
	if rest, err := asn1.Unmarshal(attributes[1].Value, &point); err != nil || len(rest) != 0 {
		return nil, errors.New("read public key: the point is no octet string")
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

func p256() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7} } // RFC 5480 2.1.1.1

// SignMessage signs the SHA-256 digest given as option, or that of the message.
func (k *tokenKey) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	var digest []byte
	for _, opt := range opts {
		opt.ApplyDigest(&digest)
	}
	if len(digest) == 0 {
		h := sha256.New()
		if n, err := io.Copy(h, io.LimitReader(message, maxMessage+1)); err != nil || n > maxMessage {
			return nil, errors.Join(err, fmt.Errorf("message of %d bytes, at most %d", n, maxMessage))
		}
		digest = h.Sum(nil)
	}
	if len(digest) != sha256.Size {
		return nil, fmt.Errorf("digest of %d bytes, want SHA-256", len(digest))
	}
	object, err := k.find(pkcs11.CKO_PRIVATE_KEY)
	if err != nil {
		return nil, err
	}
	if err := k.module.SignInit(k.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, object); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	raw, err := k.module.Sign(k.session, digest)
	if err != nil || len(raw) != 64 {
		return nil, fmt.Errorf("sign: %d bytes: %w", len(raw), err)
	}
	// PKCS#11 2.3.1: r and s side by side; everyone else wants RFC 3279 2.2.3.
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
}

// VerifySignature verifies without the token's help.
func (k *tokenKey) VerifySignature(sig, message io.Reader, opts ...signature.VerifyOption) error {
	public, err := k.PublicKey()
	if err != nil {
		return err
	}
	v, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return err
	}
	return v.VerifySignature(sig, message, opts...)
}

// CreateKey makes a key that never leaves the token. An existing one stays.
func (k *tokenKey) CreateKey(_ context.Context, name string) (crypto.PublicKey, error) {
	if name != algorithm {
		return nil, fmt.Errorf("algorithm %q, want %s", name, algorithm)
	}
	if public, err := k.PublicKey(); err == nil {
		return public, nil
	}
	params, err := asn1.Marshal(p256())
	if err != nil {
		return nil, err
	}
	common := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.label), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(k.label)),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}
	public := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params)}, common...)
	private := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)}, common...)
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}
	if _, _, err := k.module.GenerateKeyPair(k.session, mechanism, public, private); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return k.PublicKey()
}

// CryptoSigner is made by the plugin's client; the protocol does not carry it.
func (k *tokenKey) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, errors.New("not part of the plugin protocol")
}

// SupportedAlgorithms lists what CreateKey takes.
func (k *tokenKey) SupportedAlgorithms() []string { return []string{algorithm} }

// DefaultAlgorithm is the only one.
func (k *tokenKey) DefaultAlgorithm() string { return algorithm }
