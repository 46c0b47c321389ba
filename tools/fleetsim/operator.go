package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"ringfence/provisioning/wire"
)

// operator speaks to the admin API.
type operator struct {
	base  string
	http  *http.Client
	roots *x509.CertPool // of the owner
}

// profile is admin.json of provisiond init.
type profile struct {
	Address     string `json:"address"`
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

func newOperator(path string) (*operator, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read admin profile: %w", err)
	}
	var p profile
	if err := wire.DecodeStrict(raw, 64<<10, &p); err != nil {
		return nil, fmt.Errorf("admin profile %s: %w", path, err)
	}
	pair, err := tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
	if err != nil {
		return nil, fmt.Errorf("admin profile %s: %w", path, err)
	}
	o := &operator{base: p.Address, roots: x509.NewCertPool()}
	if !o.roots.AppendCertsFromPEM([]byte(p.CA)) {
		return nil, fmt.Errorf("admin profile %s: no CA certificate in it", path)
	}
	o.http = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: o.roots, Certificates: []tls.Certificate{pair}}}}
	return o, nil
}

// call sends body as JSON; answer may be nil.
func (o *operator) call(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, o.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	rsp, err := o.http.Do(req)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(rsp.Body, 64<<20))
	if err != nil {
		return err
	}
	if rsp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s", method, path, rsp.Status, raw)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}

// deliver has the owner trust m, its releases and its phones.
func (o *operator) deliver(ctx context.Context, m *maker, n int, releases ...string) ([]*phone, error) {
	endorsement, err := m.endorsement()
	if err != nil {
		return nil, err
	}
	if err := o.call(ctx, http.MethodPost, "/v1/manufacturers", endorsement, nil); err != nil {
		return nil, err
	}
	for _, version := range releases {
		if err := o.importReference(ctx, m, version); err != nil {
			return nil, err
		}
	}
	phones, manifest, err := m.build(n)
	if err != nil {
		return nil, err
	}
	return phones, o.call(ctx, http.MethodPost, "/v1/manifests", manifest, nil)
}

func (o *operator) importReference(ctx context.Context, m *maker, version string) error {
	ref, err := m.reference(version)
	if err != nil {
		return err
	}
	return o.call(ctx, http.MethodPost, "/v1/references", ref, nil)
}
