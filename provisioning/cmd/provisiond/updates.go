package main

import (
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"ringfence/provisioning/fleet"
	"ringfence/provisioning/problem"
	"ringfence/provisioning/release"
	wire "ringfence/provisioning/wire/release"
)

// downloadTimeout is how long one answer may take: an image over a slow line.
const downloadTimeout = 15 * time.Minute

// withUpdates puts the update repository before next, for phones of the fleet
// with a management certificate. The returned function closes it.
func withUpdates(cfg *config, phones *x509.CertPool, devices *fleet.Fleet, next http.Handler) (http.Handler, func() error, error) {
	if cfg.Repository == "" {
		return next, func() error { return nil }, nil
	}
	dir := cfg.Repository
	if !filepath.IsAbs(dir) {
		dir = cfg.file(dir)
	}
	files, end, err := release.Handler(dir)
	if err != nil {
		return nil, nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served := false
		for _, prefix := range []string{wire.PathMetadata, wire.PathTargets, wire.PathProofs} {
			served = served || strings.HasPrefix(r.URL.Path, prefix)
		}
		if !served {
			next.ServeHTTP(w, r)
			return
		}
		if !phoneOf(r, phones, devices) {
			problem.Write(w, problem.Forbidden("updates are for phones with a management certificate"))
			return
		}
		// Refused only by writers without a deadline: then none is needed.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTimeout))
		files.ServeHTTP(w, r)
	}), end, nil
}

func phoneOf(r *http.Request, phones *x509.CertPool, devices *fleet.Fleet) bool {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	cert := r.TLS.PeerCertificates[0]
	if _, err := cert.Verify(x509.VerifyOptions{Roots: phones, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return false
	}
	_, err := devices.ByCertificate(r.Context(), cert)
	return err == nil
}
