package appraise

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"ringfence/provisioning/wire/evidence"
)

const maxStructure = 4 << 10

// attestationKey decodes an AK: P-256, restricted signing, bound to its TPM.
// A restricted key signs nothing but what the TPM itself made, which is what
// makes a quote a quote (TPM 2.0 part 1, 25.1.4).
func attestationKey(raw []byte) (*ecdsa.PublicKey, error) {
	public, key, err := publicKey(raw)
	if err != nil {
		return nil, err
	}
	if a := public.ObjectAttributes; !a.Restricted || !a.SignEncrypt || a.Decrypt || !resident(a) {
		return nil, errors.New("not a restricted signing key that was made in, and is bound to, its TPM")
	}
	return key, nil
}

// resident: the TPM made the key and never lets it out (part 2, 8.3).
func resident(a tpm2.TPMAObject) bool {
	return a.FixedTPM && a.FixedParent && a.SensitiveDataOrigin
}

// publicKey decodes a TPMT_PUBLIC of a P-256 key strictly.
func publicKey(raw []byte) (*tpm2.TPMTPublic, *ecdsa.PublicKey, error) {
	public, err := unmarshal[tpm2.TPMTPublic](raw)
	if err != nil {
		return nil, nil, fmt.Errorf("parse public area: %w", err)
	}
	if public.Type != tpm2.TPMAlgECC || public.NameAlg != tpm2.TPMAlgSHA256 {
		return nil, nil, errors.New("not an ECC key with SHA-256 names")
	}
	parms, err := public.Parameters.ECCDetail()
	if err != nil {
		return nil, nil, err
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, nil, err
	}
	if parms.CurveID != tpm2.TPMECCNistP256 {
		return nil, nil, errors.New("curve is not P-256")
	}
	uncompressed := make([]byte, 65)
	uncompressed[0] = 4
	if len(point.X.Buffer) > 32 || len(point.Y.Buffer) > 32 {
		return nil, nil, errors.New("coordinate is too long")
	}
	copy(uncompressed[33-len(point.X.Buffer):], point.X.Buffer)
	copy(uncompressed[65-len(point.Y.Buffer):], point.Y.Buffer)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed)
	if err != nil {
		return nil, nil, fmt.Errorf("point: %w", err)
	}
	return public, key, nil
}

// unmarshal decodes a TPM structure and refuses any byte that does not belong
// to it.
func unmarshal[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](raw []byte) (result *T, err error) {
	if len(raw) > maxStructure {
		return nil, fmt.Errorf("%d bytes, at most %d", len(raw), maxStructure)
	}
	defer func() {
		if p := recover(); p != nil {
			result, err = nil, fmt.Errorf("malformed: %v", p)
		}
	}()
	v, err := tpm2.Unmarshal[T, P](raw)
	if err != nil {
		return nil, err
	}
	if !sameBytes(tpm2.Marshal(*v), raw) {
		return nil, errors.New("not in canonical form, or data after it")
	}
	return v, nil
}

// verifyAttest checks a TPMS_ATTEST: made by a TPM, signed by ak, over the
// qualifying data that we asked for.
func verifyAttest(raw, signature []byte, ak *ecdsa.PublicKey, binding []byte) (*tpm2.TPMSAttest, error) {
	sig, err := unmarshal[tpm2.TPMTSignature](signature)
	if err != nil {
		return nil, fmt.Errorf("parse signature: %w", err)
	}
	ecc, err := sig.Signature.ECDSA()
	if err != nil || sig.SigAlg != tpm2.TPMAlgECDSA || ecc.Hash != tpm2.TPMAlgSHA256 {
		return nil, errors.New("signature is not ECDSA with SHA-256")
	}
	digest := sha256.Sum256(raw)
	r, s := new(big.Int).SetBytes(ecc.SignatureR.Buffer), new(big.Int).SetBytes(ecc.SignatureS.Buffer)
	if !ecdsa.Verify(ak, digest[:], r, s) {
		return nil, errors.New("signature is not by the attestation key")
	}
	attest, err := unmarshal[tpm2.TPMSAttest](raw)
	if err != nil {
		return nil, fmt.Errorf("parse attestation: %w", err)
	}
	if attest.Magic != tpm2.TPMGeneratedValue {
		return nil, errors.New("magic value says that no TPM made it")
	}
	if !sameBytes(attest.ExtraData.Buffer, binding) {
		return nil, errors.New("not over our nonce, this key and this connection (replayed or relayed)")
	}
	return attest, nil
}

// checkQuote checks type, selection and digest of a quote.
func checkQuote(attest *tpm2.TPMSAttest, digest []byte) error {
	if attest.Type != tpm2.TPMSTAttestQuote {
		return fmt.Errorf("attestation is of type %#x, want a quote", uint16(attest.Type))
	}
	quote, err := attest.Attested.Quote()
	if err != nil {
		return err
	}
	selections := quote.PCRSelect.PCRSelections
	if len(selections) != 1 || selections[0].Hash != tpm2.TPMAlgSHA256 {
		return errors.New("PCR selection is not of the SHA-256 bank alone")
	}
	var mask uint64
	for i, b := range selections[0].PCRSelect {
		if i < 8 {
			mask |= uint64(b) << (8 * i)
		} else if b != 0 {
			return errors.New("PCR selection is out of range")
		}
	}
	for _, i := range evidence.PCRs {
		mask ^= 1 << i
	}
	if mask != 0 {
		return fmt.Errorf("PCR selection is not exactly %v", evidence.PCRs)
	}
	if !sameBytes(quote.PCRDigest.Buffer, digest) {
		return errors.New("the quoted digest is not that of the register values shown")
	}
	return nil
}

// objectName is the name of a public area in canonical form whose name
// algorithm is SHA-256: the algorithm and the digest (part 1, section 14).
func objectName(public []byte) []byte {
	digest := sha256.Sum256(public)
	return append(binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMAlgSHA256)), digest[:]...)
}

// verifyCertified checks TPM2_Certify: the key lives in the TPM of ak, was
// made there and cannot leave it.
func verifyCertified(k evidence.CertifiedKey, ak *ecdsa.PublicKey, binding []byte) (*ecdsa.PublicKey, error) {
	public, key, err := publicKey(k.Public)
	if err != nil {
		return nil, err
	}
	attest, err := verifyAttest(k.Certify, k.Signature, ak, binding)
	if err != nil {
		return nil, fmt.Errorf("certification: %w", err)
	}
	if attest.Type != tpm2.TPMSTAttestCertify {
		return nil, fmt.Errorf("certification is of type %#x, want certify", uint16(attest.Type))
	}
	info, err := attest.Attested.Certify()
	if err != nil {
		return nil, err
	}
	if !sameBytes(info.Name.Buffer, objectName(k.Public)) {
		return nil, errors.New("certification is for another key")
	}
	a := public.ObjectAttributes
	if !resident(a) {
		return nil, errors.New("not fixed to the TPM, or not made in it")
	}
	if seal := k.Use == evidence.UseSeal; a.Restricted || a.Decrypt != seal || a.SignEncrypt == seal {
		return nil, errors.New("attributes do not fit its use")
	}
	return key, nil
}
