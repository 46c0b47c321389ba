package main

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire/enroll"
)

// BenchmarkEnroll measures CPU time of this process (server and client half
// of TLS; the TPM is a process of its own) per operation, as cpu-us/op. The
// floor is one mutual TLS 1.3 handshake on the same port with nothing on top;
// enroll is one connection too, and three requests: csrattrs, the enrolment,
// and the replay of it that must be refused.
func BenchmarkEnroll(b *testing.B) {
	r := start(b)
	p := newPhone(b, "RF-0001", appraisetest.Good())
	r.deliver(p, true)
	b.Run("floor", func(b *testing.B) {
		perOp(b, func() error {
			conn, err := tls.Dial("tcp", r.phones, &tls.Config{RootCAs: p.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13,
				NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{p.idevid}})
			if err != nil {
				return err
			}
			return conn.Close()
		})
	})
	b.Run("enroll", func(b *testing.B) {
		perOp(b, func() error { return p.enroll(&p.idevid, enroll.Management, enroll.OpSimpleEnroll, nil) })
	})
}

func perOp(b *testing.B, op func() error) {
	before := cpu(b)
	for b.Loop() {
		if err := op(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestCACertsPeer has curl and openssl, which share no code with us, fetch and
// read the cacerts answer (RFC 7030, 4.1.3).
func TestCACertsPeer(t *testing.T) {
	for _, tool := range []string{"curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("RINGFENCE_REQUIRE") != "" {
				t.Fatalf("%s is not installed: run scripts/setup", tool)
			}
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
