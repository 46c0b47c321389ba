package release

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"ringfence/provisioning/wire"
)

// Media types of the sigstore bundle and trusted root formats.
const (
	bundleType      = "application/vnd.dev.sigstore.bundle.v0.3+json"
	trustedRootType = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
)

const maxBundle = 16 << 10

// bundle is a sigstore bundle (sigstore/protobuf-specs, sigstore_bundle.proto,
// version 0.3) with a bare public key and no transparency log: the release log
// of ours takes that place. Byte fields are base64.
type bundle struct {
	MediaType            string               `json:"mediaType"`
	VerificationMaterial verificationMaterial `json:"verificationMaterial"`
	MessageSignature     messageSignature     `json:"messageSignature"`
}

type verificationMaterial struct {
	PublicKey publicKeyHint `json:"publicKey"`
}

type publicKeyHint struct {
	Hint string `json:"hint"`
}

type messageSignature struct {
	MessageDigest messageDigest `json:"messageDigest"`
	Signature     []byte        `json:"signature"`
}

type messageDigest struct {
	Algorithm string `json:"algorithm"`
	Digest    []byte `json:"digest"`
}

// newBundle signs an image by its SHA-256 digest.
func newBundle(s *Signer, digest []byte) (json.RawMessage, error) {
	sig, err := s.signDigest(digest)
	if err != nil {
		return nil, err
	}
	hint, err := keyHint(s.public)
	if err != nil {
		return nil, err
	}
	return json.Marshal(bundle{
		MediaType:            bundleType,
		VerificationMaterial: verificationMaterial{publicKeyHint{base64.StdEncoding.EncodeToString(hint)}},
		MessageSignature:     messageSignature{messageDigest{"SHA2_256", digest}, sig},
	})
}

// VerifyBundle checks that the bundle is public's signature over an image with
// that SHA-256 digest.
func VerifyBundle(raw []byte, public *ecdsa.PublicKey, digest []byte) error {
	var b bundle
	if err := wire.DecodeStrict(raw, maxBundle, &b); err != nil {
		return fmt.Errorf("decode bundle: %w", err)
	}
	if b.MediaType != bundleType || b.MessageSignature.MessageDigest.Algorithm != "SHA2_256" {
		return errors.New("bundle is not of version 0.3 with SHA-256")
	}
	if !bytes.Equal(b.MessageSignature.MessageDigest.Digest, digest) {
		return errors.New("bundle is for another image")
	}
	if !ecdsa.VerifyASN1(public, digest, b.MessageSignature.Signature) {
		return errors.New("bundle's signature is not by this key")
	}
	return nil
}

// TrustedRoot is the trusted_root.json that cosign wants beside a bundle: it
// names no public log and no authority, because none of them signs here.
func TrustedRoot() []byte {
	return []byte(`{"mediaType":"` + trustedRootType + `","tlogs":[],"certificateAuthorities":[],"ctlogs":[],"timestampAuthorities":[]}` + "\n")
}
