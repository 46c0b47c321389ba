package identity

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// Signer signs with one TPM key. Safe for concurrent use.
type Signer struct {
	keys *Keys
	use  string
	pub  *ecdsa.PublicKey
}

var _ crypto.Signer = (*Signer)(nil)

// Signer returns the signer of the key "idevid", "management" or "sip".
func (k *Keys) Signer(use string) (*Signer, error) {
	if use != useIDevID && use != useManagement && use != useSIP {
		return nil, fmt.Errorf("the %q key does not sign", use)
	}
	parms, point, err := k.objects[use].ecc()
	if err != nil {
		return nil, err
	}
	pub, err := tpm2.ECDSAPub(parms, point)
	if err != nil {
		return nil, fmt.Errorf("public %s key: %w", use, err)
	}
	return &Signer{keys: k, use: use, pub: pub}, nil
}

func (o *object) ecc() (*tpm2.TPMSECCParms, *tpm2.TPMSECCPoint, error) {
	parms, err := o.public.Parameters.ECCDetail()
	if err != nil {
		return nil, nil, err
	}
	point, err := o.public.Unique.ECC()
	return parms, point, err
}

// Public returns the *ecdsa.PublicKey.
func (s *Signer) Public() crypto.PublicKey { return s.pub }

// Sign returns the ASN.1 signature of a SHA-256 digest (FIPS 186-5). The
// random source is the TPM's own.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || opts.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, errors.New("sign with TPM key: only SHA-256 digests")
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	var signature []byte
	err := s.keys.with(s.use, func(_ *object, h tpm2.AuthHandle) error {
		response, err := tpm2.Sign{
			KeyHandle: h, Digest: tpm2.TPM2BDigest{Buffer: digest},
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(s.keys.tpm)
		if err != nil {
			return err
		}
		pair, err := response.Signature.Signature.ECDSA()
		if err != nil {
			return err
		}
		signature, err = asn1.Marshal(struct{ R, S *big.Int }{
			new(big.Int).SetBytes(pair.SignatureR.Buffer), new(big.Int).SetBytes(pair.SignatureS.Buffer)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sign with %s key: %w", s.use, err)
	}
	return signature, nil
}

// SealKey returns the private key of locked configurations; its secret half
// is used inside the TPM (TPM2_ECDH_ZGen).
func (k *Keys) SealKey() (hpke.PrivateKey, error) {
	parms, point, err := k.objects[useSeal].ecc()
	if err != nil {
		return nil, err
	}
	pub, err := tpm2.ECDHPub(parms, point)
	if err != nil {
		return nil, fmt.Errorf("public seal key: %w", err)
	}
	return hpke.NewDHKEMPrivateKey(exchanger{k, pub})
}

type exchanger struct {
	keys *Keys
	pub  *ecdh.PublicKey
}

var _ ecdh.KeyExchanger = exchanger{}

func (e exchanger) PublicKey() *ecdh.PublicKey { return e.pub }
func (e exchanger) Curve() ecdh.Curve          { return ecdh.P256() }

// ECDH returns the x coordinate of the shared point, 32 bytes (SEC 1, 3.3.1).
func (e exchanger) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	if remote.Curve() != ecdh.P256() {
		return nil, errors.New("key agreement: peer key is not on P-256")
	}
	raw := remote.Bytes() // 4 || x || y (SEC 1, 2.3.3)
	point := tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: raw[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: raw[33:]}}
	e.keys.mu.Lock()
	defer e.keys.mu.Unlock()
	shared := make([]byte, 32)
	err := e.keys.with(useSeal, func(_ *object, h tpm2.AuthHandle) error {
		response, err := tpm2.ECDHZGen{KeyHandle: h, InPoint: tpm2.New2B(point)}.Execute(e.keys.tpm)
		if err != nil {
			return err
		}
		out, err := response.OutPoint.Contents()
		if err != nil {
			return err
		}
		if len(out.X.Buffer) > len(shared) {
			return fmt.Errorf("shared point of %d bytes", len(out.X.Buffer))
		}
		copy(shared[len(shared)-len(out.X.Buffer):], out.X.Buffer)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("key agreement: %w", err)
	}
	return shared, nil
}
