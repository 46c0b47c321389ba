package main

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"ringfence/provisioning/problem"
	"ringfence/provisioning/release"
)

// withReleases serves the update repository of the configuration beside next,
// to phones with a management certificate. Without one it is next alone. A
// phone that no longer proves itself may still ask: an update may be its cure.
func withReleases(cfg *config, management *x509.CertPool, next http.Handler) (http.Handler, error) {
	if cfg.Releases == "" {
		return next, nil
	}
	dir := cfg.Releases
	if !filepath.IsAbs(dir) {
		dir = cfg.file(dir)
	}
	repository, _, err := release.Handler(dir) // its folder stays open as long as the process lives
	if err != nil {
		return nil, fmt.Errorf("configuration: releases: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/tuf/") {
			next.ServeHTTP(w, r)
			return
		}
		if err := managed(r, management, time.Now()); err != nil {
			problem.Write(w, problem.Forbidden("updates want a management certificate: "+err.Error()))
			return
		}
		repository.ServeHTTP(w, r)
	}), nil
}

// managed checks the client's management certificate.
func managed(r *http.Request, roots *x509.CertPool, now time.Time) error {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return fmt.Errorf("none was shown")
	}
	_, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}
