// Package release describes firmware releases: the reference values that a
// phone booting one must show, and how versions compare. It neither builds nor
// publishes them.
package release

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
)

// ReferenceType is the DSSE payload type of reference values.
const ReferenceType = "application/vnd.ringfence.reference-values+json"

// MaxReference bounds the JSON of reference values, in bytes.
const MaxReference = 64 << 10

// Reference is what a phone of Model shows when it runs Release and nothing
// else. The manufacturer signs it with the release.
type Reference struct {
	Schema     int                     `json:"schema"` // 1
	Release    string                  `json:"release"`
	Model      device.Model            `json:"model"`
	Image      evidence.Digest         `json:"image"`       // of the signed UKI file
	PCRs       map[int]evidence.Digest `json:"pcrs"`        // exactly 0,2,3,4,6,7,9,11,12,13; the others are judged by policy
	Components []Component             `json:"components"`  // parts of the image, so that a difference can be named
	BootEntry  []string                `json:"boot_entry"`  // file paths that Boot#### may start, as in PCR 1's variables
	Executable []evidence.Digest       `json:"executables"` // files that IMA (PCR 10) may list
}

// Component is one measured part of the image.
type Component struct {
	Name    string          `json:"name"`    // "kernel", "initramfs", "command line", "os-release", "device tree"
	Section string          `json:"section"` // PE section measured by systemd-stub, "" for the device tree
	SHA256  evidence.Digest `json:"sha256"`
}

// ExactPCRs are the registers whose value Reference.PCRs fixes.
var ExactPCRs = [...]int{0, 2, 3, 4, 6, 7, 9, 11, 12, 13}

// Validate checks that nothing is missing.
func (r *Reference) Validate() error {
	if r.Schema != 1 {
		return fmt.Errorf("reference values of schema %d, want 1", r.Schema)
	}
	if _, err := ParseVersion(r.Release); err != nil {
		return err
	}
	if r.Model == "" || len(r.Components) == 0 || len(r.BootEntry) == 0 {
		return errors.New("reference values without model, components or boot entries")
	}
	if len(r.PCRs) != len(ExactPCRs) {
		return fmt.Errorf("reference values fix %d PCRs, want %d", len(r.PCRs), len(ExactPCRs))
	}
	for _, i := range ExactPCRs {
		if _, ok := r.PCRs[i]; !ok {
			return fmt.Errorf("reference values lack PCR %d", i)
		}
	}
	return nil
}

// SignReference returns the DSSE envelope (JSON) of r by the manufacturer's
// release key (ECDSA P-256 with SHA-256).
func SignReference(r *Reference, key crypto.Signer) ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	es, err := dsse.NewEnvelopeSigner(signer{key})
	if err != nil {
		return nil, err
	}
	env, err := es.SignPayload(context.Background(), ReferenceType, payload)
	if err != nil {
		return nil, fmt.Errorf("sign reference values: %w", err)
	}
	return json.MarshalIndent(env, "", "  ")
}

// VerifyReference checks the envelope against the manufacturer's release key.
// It is the only way to get a Reference from outside.
func VerifyReference(envelope []byte, key crypto.PublicKey) (*Reference, error) {
	if len(envelope) > 2*MaxReference {
		return nil, fmt.Errorf("reference values of %d bytes, at most %d", len(envelope), 2*MaxReference)
	}
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("release key is %T, want ECDSA", key)
	}
	var env dsse.Envelope
	if err := json.Unmarshal(envelope, &env); err != nil {
		return nil, fmt.Errorf("decode reference envelope: %w", err)
	}
	if env.PayloadType != ReferenceType {
		return nil, fmt.Errorf("payload type %q, want %q", env.PayloadType, ReferenceType)
	}
	v, err := dsse.NewEnvelopeVerifier(verifier{pub})
	if err != nil {
		return nil, err
	}
	_, payload, err := v.VerifyAndDecode(context.Background(), &env)
	if err != nil {
		return nil, fmt.Errorf("reference values: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	r := new(Reference)
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("decode reference values: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the reference values")
	}
	return r, r.Validate()
}

// Version is a release number: major.minor.patch.
type Version [3]int

// ParseVersion reads "1.2.3".
func ParseVersion(s string) (Version, error) {
	var v Version
	parts := strings.Split(s, ".")
	if len(parts) != len(v) {
		return v, fmt.Errorf("release %q: want major.minor.patch", s)
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || p != strconv.FormatUint(n, 10) {
			return v, fmt.Errorf("release %q: want major.minor.patch", s)
		}
		v[i] = int(n)
	}
	return v, nil
}

// Compare returns -1, 0 or +1. It is the one place where versions are compared.
func (v Version) Compare(w Version) int {
	for i := range v {
		if v[i] != w[i] {
			if v[i] < w[i] {
				return -1
			}
			return 1
		}
	}
	return 0
}

type signer struct{ crypto.Signer }

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	return s.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func (s signer) KeyID() (string, error) { return dsse.SHA256KeyID(s.Public()) }

type verifier struct{ key *ecdsa.PublicKey }

func (v verifier) Verify(_ context.Context, data, sig []byte) error {
	digest := sha256.Sum256(data)
	if !ecdsa.VerifyASN1(v.key, digest[:], sig) {
		return errors.New("signature is not by the release key")
	}
	return nil
}

func (v verifier) KeyID() (string, error)   { return dsse.SHA256KeyID(v.key) }
func (v verifier) Public() crypto.PublicKey { return v.key }
