// Package device names phones: their identifier, their model and the
// certificates that carry them. It issues and verifies nothing.
//
// Profiles (IEEE 802.1AR-2018 section 8, RFC 5280):
//
//	IDevID      CN = ID, serialNumber = "PID:<model> SN:<ID>", URI urn:ringfence:device:<ID>; by the manufacturer, no expiry (99991231235959Z)
//	management  CN = ID, URI urn:ringfence:device:<ID>; by the owner's management CA, short-lived
//	sip         CN = ID, URIs sip:<ID>@<domain> (first) and urn:ringfence:device:<ID>; by the owner's SIP CA, short-lived
package device

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// ID is a phone's serial number, unique per manufacturer: 4 to 32 characters
// of A-Z, 0-9 and inner hyphens.
type ID string

var idPattern = regexp.MustCompile(`^[A-Z0-9][A-Z0-9-]{2,30}[A-Z0-9]$`)

// ParseID checks s.
func ParseID(s string) (ID, error) {
	if !idPattern.MatchString(s) {
		return "", fmt.Errorf("device ID %q: want 4 to 32 of A-Z, 0-9 and inner hyphens", s)
	}
	return ID(s), nil
}

// Model names a board, such as "virt64".
type Model string

const urnPrefix = "urn:ringfence:device:"

// URN is the URI that every certificate of the phone carries.
func (id ID) URN() *url.URL {
	return &url.URL{Scheme: "urn", Opaque: strings.TrimPrefix(urnPrefix, "urn:") + string(id)}
}

// SIPURI is the first URI of the phone's SIP certificate.
func (id ID) SIPURI(domain string) *url.URL {
	return &url.URL{Scheme: "sip", Opaque: string(id) + "@" + domain}
}

// Subject is the subject of the phone's IDevID certificate (802.1AR 8.6).
func Subject(id ID, model Model) pkix.Name {
	return pkix.Name{CommonName: string(id), SerialNumber: fmt.Sprintf("PID:%s SN:%s", model, id)}
}

// FromCertificate returns the ID that cert names. The common name and the
// device URN must agree, and there must be exactly one URN. The caller has
// verified the chain.
func FromCertificate(cert *x509.Certificate) (ID, error) {
	id, err := ParseID(cert.Subject.CommonName)
	if err != nil {
		return "", fmt.Errorf("certificate subject: %w", err)
	}
	var urns []string
	for _, u := range cert.URIs {
		if strings.HasPrefix(u.String(), urnPrefix) {
			urns = append(urns, u.String())
		}
	}
	if len(urns) != 1 || urns[0] != id.URN().String() {
		return "", fmt.Errorf("certificate of %s: device URNs %q, want exactly %q", id, urns, id.URN())
	}
	return id, nil
}
