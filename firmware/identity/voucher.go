package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/smallstep/pkcs7"

	"ringfence/provisioning/wire/enroll"
)

// VerifyVoucher checks a voucher (CMS SignedData, RFC 8366 section 5.4) for
// this phone and returns the owner's CA that it pins. A phone without trusted
// time passes the zero now.
func VerifyVoucher(cms []byte, f *Factory, now time.Time) (*x509.Certificate, error) {
	if f == nil || len(f.Anchors) == 0 {
		return nil, errors.New("verify voucher: no manufacturer anchors")
	}
	if len(cms) > 2*enroll.MaxVoucher {
		return nil, fmt.Errorf("verify voucher: %d bytes, at most %d", len(cms), 2*enroll.MaxVoucher)
	}
	signed, err := pkcs7.Parse(cms)
	if err != nil {
		return nil, fmt.Errorf("parse voucher: %w", err)
	}
	signer := signed.GetOnlySigner()
	if signer == nil {
		return nil, errors.New("verify voucher: want exactly one signer with its certificate")
	}
	if signer.Subject.CommonName != enroll.VoucherSigner {
		return nil, fmt.Errorf("verify voucher: signed by %q, want %q", signer.Subject.CommonName, enroll.VoucherSigner)
	}
	roots := x509.NewCertPool()
	for _, anchor := range f.Anchors {
		roots.AddCert(anchor)
	}
	if _, err := signer.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: clockless(signer, f.Anchors),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("verify voucher signer: %w", err)
	}
	if err := signed.Verify(); err != nil {
		return nil, fmt.Errorf("verify voucher: %w", err)
	}
	return enroll.ParseVoucher(signed.Content, f.Device, now)
}
