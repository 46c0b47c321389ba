package enroll

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ringfence/provisioning/wire/device"
)

// Voucher is the content of an RFC 8366 voucher: the manufacturer's word that
// the device belongs to the owner whose CA certificate is pinned. On the wire
// it is the eContent of a CMS SignedData (RFC 8366 section 5.4), signed with a
// key that the manufacturer's CA certified.
type Voucher struct {
	CreatedOn        time.Time `json:"created-on"`
	ExpiresOn        time.Time `json:"expires-on,omitzero"`
	Assertion        string    `json:"assertion"` // "logged" or "verified"
	SerialNumber     device.ID `json:"serial-number"`
	PinnedDomainCert []byte    `json:"pinned-domain-cert"` // DER
	Nonce            []byte    `json:"nonce,omitempty"`
}

type voucherDocument struct {
	Voucher Voucher `json:"ietf-voucher:voucher"`
}

// VoucherSigner is the common name of the one certificate below the
// manufacturer's device CA that may sign vouchers.
const VoucherSigner = "ringfence voucher signer"

// MaxVoucher bounds a voucher's JSON, in bytes.
const MaxVoucher = 16 << 10

// MarshalJSONDocument encodes the voucher as RFC 8366 section 5.3 shows it.
func (v Voucher) MarshalJSONDocument() ([]byte, error) {
	return json.Marshal(voucherDocument{v})
}

// ParseVoucher decodes the content of a voucher whose signature was verified,
// and checks that it is for id. A phone without trusted time passes the zero
// now: then expiry is not judged (R19; RFC 8366 section 5.3 lets nonceless
// vouchers live for the device's life).
func ParseVoucher(content []byte, id device.ID, now time.Time) (*x509.Certificate, error) {
	if len(content) > MaxVoucher {
		return nil, fmt.Errorf("voucher of %d bytes, at most %d", len(content), MaxVoucher)
	}
	var doc voucherDocument
	if err := json.Unmarshal(content, &doc); err != nil {
		return nil, fmt.Errorf("parse voucher: %w", err)
	}
	v := doc.Voucher
	if v.SerialNumber != id {
		return nil, fmt.Errorf("voucher is for device %q, this is %q", v.SerialNumber, id)
	}
	if v.Assertion != "verified" && v.Assertion != "logged" {
		return nil, fmt.Errorf("voucher assertion %q, want verified or logged", v.Assertion)
	}
	if !now.IsZero() && !v.ExpiresOn.IsZero() && now.After(v.ExpiresOn) {
		return nil, fmt.Errorf("voucher expired on %s", v.ExpiresOn.Format(time.DateOnly))
	}
	cert, err := x509.ParseCertificate(v.PinnedDomainCert)
	if err != nil {
		return nil, fmt.Errorf("parse pinned certificate: %w", err)
	}
	if !cert.IsCA {
		return nil, errors.New("pinned certificate is not a CA")
	}
	return cert, nil
}
