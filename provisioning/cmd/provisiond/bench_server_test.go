package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A benchmark runs its servers as processes of their own, from this same test
// binary, so that their CPU time can be told from the clients'.
const (
	childVariable = "RINGFENCE_BENCH_CHILD"
	childService  = "provisiond"
	childFloor    = "floor"
)

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	var err error
	switch os.Getenv(childVariable) {
	case childService:
		err = run(ctx, os.Args[1:], io.Discard)
	case childFloor:
		err = serveFloor(ctx, os.Args[1], os.Args[2])
	default:
		stop()
		os.Exit(m.Run())
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startChild runs a server until b ends and returns its process number.
func startChild(b *testing.B, kind string, args ...string) int {
	b.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"="+kind)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		if err := cmd.Wait(); err != nil {
			b.Errorf("%s: %v", kind, err)
		}
	})
	return cmd.Process.Pid
}

// startServer runs provisiond for a new site.
func startServer(b *testing.B) (pid int, r *running) {
	b.Helper()
	r = startBy(b, "1s", func(config string) { pid = startChild(b, childService, "--config", config) })
	return pid, r
}

// cpuOf is the CPU time that a process has used, in user mode and in the
// kernel: clock_getcpuclockid(3) with the kernel's numbering
// (include/linux/posix-timers_types.h).
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	const scheduled = 2
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &at); err != nil {
		b.Fatalf("CPU time of process %d: %v", pid, err)
	}
	return time.Duration(at.Nano())
}

// floor is the minimal server beside which provisiond is measured.
type floor struct {
	pid                int
	handshakes, issues string // addresses
	ca                 *x509.Certificate
	key                *ecdsa.PrivateKey
}

func startFloor(b *testing.B) *floor {
	b.Helper()
	f := &floor{handshakes: freeAddress(b), issues: freeAddress(b), key: key(b)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "floor"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, f.key.Public(), f.key)
	if err != nil {
		b.Fatal(err)
	}
	if f.ca, err = x509.ParseCertificate(der); err != nil {
		b.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(f.key)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.Chdir(dir)
	f.pid = startChild(b, childFloor, f.handshakes, f.issues)
	for range 200 {
		if conn, err := net.Dial("tcp", f.issues); err == nil {
			_ = conn.Close() // it only shows that the server listens
			return f
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatal("the minimal server does not listen")
	return nil
}

// client makes a certificate for the floor's clients.
func (f *floor) client(b *testing.B) *tls.Config {
	b.Helper()
	k := key(b)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, f.ca, k.Public(), f.key)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(f.ca)
	return &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}
}

// handshake returns when the server has finished its half too.
func (f *floor) handshake(cfg *tls.Config) error {
	conn, err := tls.Dial("tcp", f.handshakes, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the handshake: %w", err)
	}
	return nil
}

// certify has the key of a new request certified.
func (f *floor) certify(cfg *tls.Config) error {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, cfg.Certificates[0].PrivateKey)
	if err != nil {
		return err
	}
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: cfg}}
	defer c.CloseIdleConnections()
	_, _, err = do(c, http.MethodPost, "https://"+f.issues+"/", "application/pkcs10", bytes.NewReader(csr))
	return err
}

// serveFloor is the minimal server: at one address it completes handshakes, at
// the other it signs what it is asked to.
func serveFloor(ctx context.Context, handshakes, issues string) error {
	pair, err := tls.LoadX509KeyPair("cert.pem", "key.pem")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"}}
	bare, err := tls.Listen("tcp", handshakes, cfg)
	if err != nil {
		return err
	}
	web := &http.Server{Addr: issues, TLSConfig: cfg, Handler: certifier(pair), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0)} // what it prints would stand in the middle of a result
	context.AfterFunc(ctx, func() { _, _ = bare.Close(), web.Close() }) // the process ends
	go func() {
		for {
			conn, err := bare.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).Handshake() // the client sees what went wrong
				_ = conn.Close()
			}()
		}
	}()
	if err := web.ListenAndServeTLS("", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func certifier(ca tls.Certificate) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err != nil {
			return
		}
		csr, err := x509.ParseCertificateRequest(raw)
		if err != nil || csr.CheckSignature() != nil {
			http.Error(w, "not a request", http.StatusBadRequest)
			return
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(3), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, csr.PublicKey, ca.PrivateKey)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(der) // the peer has gone: nothing more to say
	}
}
