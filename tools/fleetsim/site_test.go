package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/provisioning/ca"
)

// site is a provisiond of its own: the real program on loopback.
type site struct {
	t      testing.TB
	dir    string
	bin    string // of the programs
	phones string // address
	cmd    *exec.Cmd
	owner  *operator
	second string // admin profile of another operator
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newSite builds the programs, makes a site and starts it; edit changes lines
// of its configuration.
func newSite(t testing.TB, edit ...string) *site {
	t.Helper()
	s := &site{t: t, bin: t.TempDir(), dir: filepath.Join(t.TempDir(), "site"), phones: freeAddress(t)}
	build := exec.Command("go", "build", "-o", s.bin, "ringfence/provisioning/cmd/provisiond", "ringfence/tools/ringfence")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	init := exec.Command(filepath.Join(s.bin, "provisiond"), "init", s.dir, "--name", "prov.ringfence.test", "--sip-name", "sip.ringfence.test",
		"--domain", "ringfence.test", "--listen", s.phones, "--admin-listen", freeAddress(t))
	if text, err := init.CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, text)
	}
	path := filepath.Join(s.dir, "provisiond.toml")
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(strings.NewReplacer(edit...).Replace(string(text))), 0o600))
	s.owner, err = newOperator(filepath.Join(s.dir, "admin.json"))
	must(t, err)
	s.second = s.colleague("second")
	s.start()
	t.Cleanup(s.stop)
	return s
}

// start runs the service and waits until it answers.
func (s *site) start() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(s.t, err)
	defer log.Close()
	s.cmd = exec.Command(filepath.Join(s.bin, "provisiond"), "--config", filepath.Join(s.dir, "provisiond.toml"))
	s.cmd.Stderr = log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(s.t, s.cmd.Start())
	for range 500 {
		if err = s.owner.call(s.t.Context(), "GET", "/v1/status", nil, nil); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Fatal(err)
}

func (s *site) stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("provisiond: %v", err)
	}
	s.cmd = nil
}

// crash ends the service as a power cut does.
func (s *site) crash() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
	s.cmd = nil
}

// colleague makes the admin profile of another operator with the site's
// admin CA.
func (s *site) colleague(name string) string {
	s.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "admin-ca.pem"), filepath.Join(s.dir, "admin-ca.key"))
	must(s.t, err)
	authority, err := ca.New(pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey))
	must(s.t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(s.t, err)
	cert, err := authority.Admin(name, key.Public(), time.Now(), time.Hour)
	must(s.t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(s.t, err)
	raw, err := os.ReadFile(filepath.Join(s.dir, "admin.json"))
	must(s.t, err)
	var p profile
	must(s.t, json.Unmarshal(raw, &p))
	p.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	p.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	raw, err = json.Marshal(p)
	must(s.t, err)
	path := filepath.Join(s.dir, name+".json")
	must(s.t, os.WriteFile(path, raw, 0o600))
	return path
}

// ringfence runs the command-line tool with the profile given.
func (s *site) ringfence(profile string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(s.bin, "ringfence"), args...)
	cmd.Env = append(os.Environ(), "RINGFENCE_ADMIN="+profile)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (s *site) admin() string { return filepath.Join(s.dir, "admin.json") }

// used is the peak memory (bytes) and CPU time of the service.
func (s *site) used() (peak int, cpu time.Duration) {
	s.t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	must(s.t, err)
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(kb)[0])
			must(s.t, err)
			peak = n << 10
		}
	}
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	must(s.t, err)
	fields := strings.Fields(string(stat)[bytes.LastIndexByte(stat, ')')+2:])
	for _, f := range fields[11:13] { // utime, stime: proc(5)
		ticks, err := strconv.Atoi(f)
		must(s.t, err)
		cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	return peak, cpu
}

// newPhones has the site's owner trust a maker, and n of its phones enrolled
// and connected with release 1.0.0.
func (s *site) newPhones(n int, reboot time.Duration) (*fleet, *maker) {
	s.t.Helper()
	m, err := newMaker("Sim")
	must(s.t, err)
	phones, err := s.owner.deliver(s.t.Context(), m, n, "1.0.0")
	must(s.t, err)
	f := newFleet(&service{s.phones, "localhost", s.owner.roots}, phones, reboot)
	f.roll(dice{})
	start := time.Now()
	must(s.t, f.enroll(s.t.Context(), "1.0.0"))
	s.t.Logf("%d phones enrolled in %s", n, time.Since(start).Round(time.Millisecond))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.run(ctx) }()
	s.t.Cleanup(func() { cancel(); <-done })
	s.connected(n)
	return f, m
}

// connected waits until n phones have a stream.
func (s *site) connected(n int) {
	s.t.Helper()
	var status struct {
		Connected []string       `json:"connected"`
		Devices   map[string]int `json:"devices"`
	}
	for range 600 {
		must(s.t, s.owner.call(s.t.Context(), "GET", "/v1/status", nil, &status))
		if len(status.Connected) >= n && status.Devices["trusted"] >= n {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("%d of %d phones are connected: %v", len(status.Connected), n, status.Devices)
}
