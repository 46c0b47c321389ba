package main

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/provisioning/wire/enroll"
)

// TestCACertsPeer has curl and openssl, which share no code with us, fetch and
// read the cacerts answer (RFC 7030, 4.1.3).
func TestCACertsPeer(t *testing.T) {
	for _, tool := range []string{"curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIP: %s is not installed: no independent EST peer", tool)
		}
	}
	r := start(t)
	path := "https://localhost:" + r.phones[strings.LastIndex(r.phones, ":")+1:] + enroll.PathPrefix + enroll.OpCACerts
	answer, err := exec.Command("curl", "-sSf", "--tlsv1.3", "--cacert", filepath.Join(r.dir, "owner-ca.pem"), path).Output()
	if err != nil {
		t.Fatal(err)
	}
	decode := exec.Command("sh", "-c", "openssl base64 -d | openssl pkcs7 -inform DER -print_certs -noout")
	decode.Stdin = bytes.NewReader(answer)
	text, err := decode.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, name := range []string{"owner CA", "management CA", "sip CA"} {
		if !strings.Contains(string(text), "ringfence.test "+name) {
			t.Errorf("openssl finds no %s in %s", name, text)
		}
	}
	anonymous := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots()}}}
	rsp, err := anonymous.Get(path)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	if kind := rsp.Header.Get("Content-Type"); kind != "application/pkcs7-mime" {
		t.Errorf("content type %q", kind)
	}
}
