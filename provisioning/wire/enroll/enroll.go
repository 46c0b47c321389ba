// Package enroll holds what both ends of enrolment must agree on: EST paths
// (RFC 7030), the CSR attributes and extensions that carry nonce and evidence,
// the value that binds evidence to one key and one TLS connection, and the
// content of the ownership voucher (RFC 8366). It signs nothing.
package enroll

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
)

// EST paths (RFC 7030 section 3.2.2). The label selects the certificate:
// the optional label segment is "management" or "sip".
const (
	PathPrefix = "/.well-known/est/"

	OpCACerts        = "cacerts"
	OpCSRAttrs       = "csrattrs"
	OpSimpleEnroll   = "simpleenroll"
	OpSimpleReenroll = "simplereenroll"
)

// Label selects which of the phone's two certificates is asked for.
type Label string

// The two certificates of an enrolled phone (architecture: Signing).
const (
	Management Label = "management"
	SIP        Label = "sip"
)

// VoucherPath serves the owner's voucher of one device, before the phone
// trusts the server: GET VoucherPath + device ID.
const VoucherPath = "/.well-known/ringfence/voucher/"

// Object identifiers under the documentation enterprise number (RFC 5612):
// to be replaced when Ringfence has a number of its own.
var (
	OIDNonce    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 7401, 1}
	OIDEvidence = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 7401, 2}
)

// NonceSize is the length of an enrolment or attestation nonce, in bytes.
const NonceSize = 32

// ExporterLabel and ExporterSize give the TLS exporter (RFC 8446 section 7.5)
// that binds evidence to its connection; the exporter context is empty.
const (
	ExporterLabel = "EXPORTER-ringfence-evidence"
	ExporterSize  = 32
)

// Binding is the qualifyingData of every quote and certification: it ties
// evidence to the verifier's nonce, to the key that is to be certified (its
// DER SubjectPublicKeyInfo) and to the TLS connection it travels on, so that
// it can be neither replayed nor relayed. On the management stream spki is the
// key of the phone's management certificate.
func Binding(nonce, spki, exporter []byte) []byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte("ringfence evidence 1"), nonce, spki, exporter} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return h.Sum(nil)
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// MarshalCSRAttrs encodes the answer to csrattrs (RFC 7030 section 4.5.2):
// the nonce as an attribute, and the evidence extension that is required.
func MarshalCSRAttrs(nonce []byte) ([]byte, error) {
	if len(nonce) != NonceSize {
		return nil, fmt.Errorf("nonce of %d bytes, want %d", len(nonce), NonceSize)
	}
	value, err := asn1.Marshal(nonce)
	if err != nil {
		return nil, err
	}
	attr, err := asn1.Marshal(attribute{OIDNonce, []asn1.RawValue{{FullBytes: value}}})
	if err != nil {
		return nil, err
	}
	oid, err := asn1.Marshal(OIDEvidence)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]asn1.RawValue{{FullBytes: attr}, {FullBytes: oid}})
}

// ParseCSRAttrs returns the nonce of a csrattrs answer.
func ParseCSRAttrs(der []byte) ([]byte, error) {
	var items []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &items); err != nil {
		return nil, fmt.Errorf("parse CSR attributes: %w", err)
	} else if len(rest) != 0 {
		return nil, errors.New("data after the CSR attributes")
	}
	for _, item := range items {
		if item.Tag != asn1.TagSequence || item.Class != asn1.ClassUniversal {
			continue
		}
		var a attribute
		if _, err := asn1.Unmarshal(item.FullBytes, &a); err != nil || !a.Type.Equal(OIDNonce) {
			continue
		}
		var nonce []byte
		if len(a.Values) != 1 {
			return nil, fmt.Errorf("nonce attribute with %d values, want 1", len(a.Values))
		}
		if _, err := asn1.Unmarshal(a.Values[0].FullBytes, &nonce); err != nil {
			return nil, fmt.Errorf("parse nonce: %w", err)
		}
		if len(nonce) != NonceSize {
			return nil, fmt.Errorf("nonce of %d bytes, want %d", len(nonce), NonceSize)
		}
		return bytes.Clone(nonce), nil
	}
	return nil, errors.New("the server's CSR attributes carry no nonce")
}
