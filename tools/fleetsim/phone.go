package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/smallstep/pkcs7"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
)

// phone is one simulated phone: what it holds between boots. Its goroutine
// owns it.
type phone struct {
	id         device.ID
	tpm        *appraisetest.Software
	idevid     tls.Certificate
	management tls.Certificate
	boots      int
	running    string  // release
	pending    *report // not yet known to have reached the service
}

// service is where phones go.
type service struct {
	address string // host:port
	name    string // in its certificate
	roots   *x509.CertPool
}

func (s *service) config(cert tls.Certificate, protocol string) *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: s.name, MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, Certificates: []tls.Certificate{cert}}
}

// enroll gets the management certificate by EST, with the IDevID.
func (p *phone) enroll(ctx context.Context, s *service, image *appraisetest.Image) error {
	transport := &http.Transport{TLSClientConfig: s.config(p.idevid, "http/1.1"), MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	base := "https://" + s.address + enroll.PathPrefix + string(enroll.Management) + "/"
	attrs, state, err := exchange(ctx, client, http.MethodGet, base+enroll.OpCSRAttrs, nil)
	if err != nil {
		return fmt.Errorf("%s: csrattrs: %w", p.id, err)
	}
	csr, err := p.request(attrs, state, image)
	if err != nil {
		return fmt.Errorf("%s: make request: %w", p.id, err)
	}
	der, _, err := exchange(ctx, client, http.MethodPost, base+enroll.OpSimpleEnroll, csr)
	if err != nil {
		return fmt.Errorf("%s: simpleenroll: %w", p.id, err)
	}
	bundle, err := pkcs7.Parse(der)
	if err != nil || len(bundle.Certificates) == 0 {
		return fmt.Errorf("%s: no certificate in the answer: %w", p.id, err)
	}
	leaf := bundle.Certificates[0]
	p.management = tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: p.tpm.Keys[evidence.UseManagement].PrivateKey, Leaf: leaf}
	return nil
}

// request answers csrattrs with a CSR that carries evidence.
func (p *phone) request(attrs []byte, state *tls.ConnectionState, image *appraisetest.Image) ([]byte, error) {
	nonce, err := enroll.ParseCSRAttrs(attrs)
	if err != nil {
		return nil, err
	}
	exporter, err := state.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	if err != nil {
		return nil, err
	}
	key := p.tpm.Keys[evidence.UseManagement]
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	ev, err := p.tpm.Prove(image, nonce, spki, exporter, evidence.UseManagement, evidence.UseSeal)
	if err != nil {
		return nil, err
	}
	text, err := ev.Encode()
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(p.id)},
		ExtraExtensions: []pkix.Extension{{Id: enroll.OIDEvidence, Value: text}}}, key.PrivateKey)
}

const maxAnswer = 1 << 20

// exchange sends der and returns the answer, both in base64 on the wire.
func exchange(ctx context.Context, c *http.Client, method, url string, der []byte) ([]byte, *tls.ConnectionState, error) {
	body := base64.StdEncoding.EncodeToString(der)
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	rsp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer rsp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(rsp.Body, maxAnswer))
	if err != nil {
		return nil, nil, err
	}
	if rsp.StatusCode != http.StatusOK {
		return nil, nil, errors.New(rsp.Status + " " + string(raw))
	}
	answer, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(raw)))
	return answer, rsp.TLS, err
}
