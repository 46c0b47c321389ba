package release

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// encryptedKey is the PEM type of key files that cosign writes and reads.
const encryptedKey = "ENCRYPTED SIGSTORE PRIVATE KEY"

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 64 << 10

// Password asks for the password of an encrypted key file.
type Password func() ([]byte, error)

// NewKey makes a P-256 key pair: the private half encrypted (scrypt and
// NaCl secretbox, cosign's format), the public half as PKIX, both PEM.
func NewKey(password []byte) (private, public []byte, err error) {
	if len(password) == 0 {
		return nil, nil, errors.New("a key file needs a password")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	box, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: encryptedKey, Bytes: box}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), nil
}

// Signer signs metadata and images with one P-256 key, wherever it is kept.
type Signer struct {
	signer signature.Signer
	public *ecdsa.PublicKey
	id     string
}

// OpenSigner opens a key: the path of an encrypted key file, or a URI with a
// scheme that sigstore knows or has a plugin for, such as
// pkcs11://TOKEN/LABEL with the program sigstore-kms-pkcs11 in the path. A
// key that is not ECDSA P-256 is refused.
func OpenSigner(ctx context.Context, ref string, password Password) (*Signer, error) {
	var s signature.Signer
	var err error
	if strings.Contains(ref, "://") {
		s, err = kms.Get(ctx, ref, crypto.SHA256)
	} else {
		s, err = openKeyFile(ref, password)
	}
	if err != nil {
		return nil, fmt.Errorf("open signing key %s: %w", ref, err)
	}
	signer, err := newSigner(s)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", ref, err)
	}
	return signer, nil
}

func newSigner(s signature.Signer) (*Signer, error) {
	public, err := s.PublicKey()
	if err != nil {
		return nil, err
	}
	ec, id, err := keyID(public)
	if err != nil {
		return nil, err
	}
	return &Signer{signer: s, public: ec, id: id}, nil
}

func openKeyFile(name string, password Password) (signature.Signer, error) {
	raw, err := readBounded(name, maxKeyFile)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != encryptedKey || len(rest) != 0 {
		return nil, fmt.Errorf("want exactly one PEM block of type %s", encryptedKey)
	}
	if password == nil {
		return nil, errors.New("the key is encrypted and there is no password")
	}
	secret, err := password()
	if err != nil {
		return nil, err
	}
	der, err := encrypted.Decrypt(block.Bytes, secret)
	if err != nil {
		return nil, fmt.Errorf("decrypt key (wrong password?): %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	return signature.LoadSigner(key, crypto.SHA256)
}

// ID is the key's TUF identifier, in hexadecimal.
func (s *Signer) ID() string { return s.id }

// Public is the public half.
func (s *Signer) Public() *ecdsa.PublicKey { return s.public }

// signDigest signs a SHA-256 digest; the signature is ASN.1 DER.
func (s *Signer) signDigest(digest []byte) ([]byte, error) {
	sig, err := s.signer.SignMessage(strings.NewReader(""), options.WithDigest(digest), options.WithCryptoSignerOpts(crypto.SHA256))
	if err != nil {
		return nil, fmt.Errorf("sign with key %.8s: %w", s.id, err)
	}
	if !ecdsa.VerifyASN1(s.public, digest, sig) {
		return nil, fmt.Errorf("key %.8s made a signature that does not verify", s.id)
	}
	return sig, nil
}

// keyID is the TUF identifier of a public key that may sign here.
func keyID(public crypto.PublicKey) (*ecdsa.PublicKey, string, error) {
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, "", fmt.Errorf("key is %T, want ECDSA P-256", public)
	}
	key, err := metadata.KeyFromPublicKey(ec)
	if err != nil {
		return nil, "", err
	}
	id, err := key.ID()
	return ec, id, err
}

// KeyHint is the hint by which sigstore bundles name a key: the SHA-256 of the
// PKIX form.
func keyHint(public *ecdsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}

// PublicPEM is the key as a PKIX PEM file.
func PublicPEM(public *ecdsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublicPEM reads exactly one P-256 key.
func ParsePublicPEM(raw []byte) (*ecdsa.PublicKey, error) {
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) != 0 {
		return nil, errors.New("want exactly one PEM block of type PUBLIC KEY")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, _, err := keyID(public)
	return ec, err
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return raw, err
}
