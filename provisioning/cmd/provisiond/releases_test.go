package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// selfSigned makes a certificate that is its own authority.
func selfSigned(t *testing.T, name string, end time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: end.Add(-48 * time.Hour), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestReleasesWantAManagementCertificate(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "repo", "metadata"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "repo", "metadata", "timestamp.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	good, expired, foreign := selfSigned(t, "phone", time.Now().Add(time.Hour)), selfSigned(t, "old", time.Now().Add(-time.Hour)), selfSigned(t, "stranger", time.Now().Add(time.Hour))
	pool := x509.NewCertPool()
	pool.AddCert(good)
	pool.AddCert(expired)
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	h, err := withReleases(&config{dir: dir, Releases: "repo"}, pool, next)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cert *x509.Certificate
		path string
		want int
	}{
		{"management", good, "/tuf/metadata/timestamp.json", 200},
		{"none", nil, "/tuf/metadata/timestamp.json", 403},
		{"expired", expired, "/tuf/metadata/timestamp.json", 403},
		{"foreign", foreign, "/tuf/metadata/timestamp.json", 403},
		{"other path", nil, "/.well-known/est/cacerts", 418},
	} {
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		r.TLS = &tls.ConnectionState{}
		if tt.cert != nil {
			r.TLS.PeerCertificates = []*x509.Certificate{tt.cert}
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != tt.want {
			t.Errorf("%s: GET %s = %d, want %d", tt.name, tt.path, rec.Code, tt.want)
		}
	}
	if _, err := withReleases(&config{dir: dir, Releases: "absent"}, pool, next); err == nil {
		t.Error("a repository that is not there was accepted")
	}
}
