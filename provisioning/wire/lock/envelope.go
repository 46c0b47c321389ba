package lock

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"ringfence/provisioning/wire/device"
)

// PayloadType is the DSSE payload type of a configuration.
const PayloadType = "application/vnd.ringfence.config+json"

// SignerName is the common name that the owner's CA gives to the one
// certificate that may sign configurations.
const SignerName = "ringfence configuration signer"

// Refusals, in the order in which they are looked for.
var (
	ErrSeal      = errors.New("seal: not sealed to this phone, or altered")
	ErrSignature = errors.New("signature: not by the owner's configuration signer, or altered")
	ErrSchema    = errors.New("schema: not a valid configuration of a known version")
	ErrRecipient = errors.New("recipient: made for another phone")
	ErrVersion   = errors.New("version: not newer than what this phone has seen")
)

// Causes maps each refusal to the word that reports and audit events use.
func Cause(err error) string {
	for cause, target := range map[string]error{"seal": ErrSeal, "signature": ErrSignature, "schema": ErrSchema,
		"recipient": ErrRecipient, "version": ErrVersion} {
		if errors.Is(err, target) {
			return cause
		}
	}
	return "apply"
}

// signed is what is inside the seal.
type signed struct {
	Envelope    *dsse.Envelope `json:"envelope"`
	Certificate []byte         `json:"certificate"` // DER, issued by the owner CA to SignerName
}

// Seal signs cfg and encrypts it to the recipient's key. cert is the
// certificate of signer (ECDSA P-256 with SHA-256).
func Seal(cfg *Config, signer crypto.Signer, cert *x509.Certificate, recipient hpke.PublicKey) ([]byte, error) {
	payload, err := cfg.encode()
	if err != nil {
		return nil, fmt.Errorf("configuration for %s: %w", cfg.Device, err)
	}
	es, err := dsse.NewEnvelopeSigner(envelopeSigner{signer})
	if err != nil {
		return nil, err
	}
	env, err := es.SignPayload(context.Background(), PayloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("sign configuration: %w", err)
	}
	plain, err := json.Marshal(signed{env, cert.Raw})
	if err != nil {
		return nil, err
	}
	return hpke.Seal(recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), info(cfg.Device), plain)
}

// Open decrypts and verifies a sealed configuration for the phone id. owner is
// the owner's CA, floor the highest version this phone ever accepted: the
// configuration must be above it, or equal to it when again is true (a phone
// that reads back what it stored). Open is the only way to get a Config from
// the wire.
func Open(sealed []byte, key hpke.PrivateKey, id device.ID, owner *x509.Certificate, floor uint64, again bool) (*Config, error) {
	if key == nil || owner == nil {
		return nil, errors.New("open configuration: no key or no owner certificate")
	}
	if len(sealed) > 2*MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrSeal, len(sealed))
	}
	plain, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), info(id), sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	payload, err := verify(plain, owner)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	cfg := new(Config)
	if err := decode(payload, cfg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if cfg.Device != id {
		return nil, fmt.Errorf("%w: for %s, this is %s", ErrRecipient, cfg.Device, id)
	}
	if cfg.Version < floor || cfg.Version == floor && !again {
		return nil, fmt.Errorf("%w: version %d, floor %d", ErrVersion, cfg.Version, floor)
	}
	return cfg, nil
}

func verify(plain []byte, owner *x509.Certificate) ([]byte, error) {
	var s signed
	if err := decode(plain, &s); err != nil {
		return nil, err
	}
	if s.Envelope == nil || s.Envelope.PayloadType != PayloadType {
		return nil, fmt.Errorf("not an envelope of type %s", PayloadType)
	}
	cert, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return nil, fmt.Errorf("parse signer certificate: %w", err)
	}
	if cert.Subject.CommonName != SignerName {
		return nil, fmt.Errorf("signer is %q, want %q", cert.Subject.CommonName, SignerName)
	}
	if err := cert.CheckSignatureFrom(owner); err != nil {
		return nil, fmt.Errorf("signer certificate: %w", err)
	}
	v, err := dsse.NewEnvelopeVerifier(envelopeVerifier{cert})
	if err != nil {
		return nil, err
	}
	_, payload, err := v.VerifyAndDecode(context.Background(), s.Envelope)
	return payload, err
}

func decode(raw []byte, v any) error {
	if len(raw) > 2*MaxSize {
		return fmt.Errorf("%d bytes, at most %d", len(raw), 2*MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	return nil
}

func info(id device.ID) []byte { return []byte("ringfence config 1 " + string(id)) }

type envelopeSigner struct{ crypto.Signer }

func (s envelopeSigner) Sign(_ context.Context, data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	return s.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func (s envelopeSigner) KeyID() (string, error) { return dsse.SHA256KeyID(s.Public()) }

type envelopeVerifier struct{ cert *x509.Certificate }

func (v envelopeVerifier) Verify(_ context.Context, data, sig []byte) error {
	pub, ok := v.cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("signer key is %T, want ECDSA", v.cert.PublicKey)
	}
	digest := sha256.Sum256(data)
	if !ecdsa.VerifyASN1(pub, digest[:], sig) {
		return errors.New("signature does not match")
	}
	return nil
}

func (v envelopeVerifier) KeyID() (string, error)   { return dsse.SHA256KeyID(v.cert.PublicKey) }
func (v envelopeVerifier) Public() crypto.PublicKey { return v.cert.PublicKey }
