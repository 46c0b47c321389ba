package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/factory"
	"ringfence/provisioning/wire/release"
	"ringfence/provisioning/wire/report"
)

// running is a site with its service, and its operator.
type running struct {
	t        testing.TB
	dir      string
	phones   string // address
	operator *http.Client
	base     string
	owner    *x509.Certificate
	maker    *x509.Certificate
	makerKey *ecdsa.PrivateKey
	release  *ecdsa.PrivateKey
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

// start makes a site and runs the service as its command line does.
func start(t testing.TB) *running {
	t.Helper()
	return startEvery(t, "1s")
}

// startEvery sets the interval of proofs.
func startEvery(t testing.TB, reattest string) *running {
	t.Helper()
	return startBy(t, reattest, func(config string) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- run(ctx, []string{"--config", config}, io.Discard) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("service: %v", err)
			}
		})
	})
}

// startBy makes a site and has serve run the service with its configuration.
func startBy(t testing.TB, reattest string, serve func(config string)) *running {
	t.Helper()
	r := &running{t: t, dir: filepath.Join(t.TempDir(), "site"), phones: freeAddress(t)}
	back := freeAddress(t)
	init := []string{"init", r.dir, "--name", "prov.ringfence.test", "--sip-name", "sip.ringfence.test", "--domain", "ringfence.test", "--listen", r.phones, "--admin-listen", back}
	if err := run(t.Context(), init, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), init, io.Discard); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Fatalf("a second init: %v", err)
	}
	path := filepath.Join(r.dir, "provisiond.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "'30s'", "'"+reattest+"'", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	serve(path)
	r.connect()
	r.manufacturer()
	return r
}

func (r *running) connect() {
	raw, err := os.ReadFile(filepath.Join(r.dir, "admin.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	var p profile
	if err := json.Unmarshal(raw, &p); err != nil {
		r.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
	if err != nil {
		r.t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(p.CA))
	if r.owner, err = x509.ParseCertificate(block.Bytes); err != nil {
		r.t.Fatal(err)
	}
	r.base = p.Address
	r.operator = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots(), Certificates: []tls.Certificate{pair}}}}
	for range 200 {
		if _, _, err = do(r.operator, http.MethodGet, r.base+"/v1/status", "", nil); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.t.Fatal(err)
}

func (r *running) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.owner)
	return pool
}

// api calls the admin API; it must succeed.
func (r *running) api(method, path string, body, answer any) {
	r.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	raw, _, err := do(r.operator, method, r.base+path, "application/json", strings.NewReader(string(text)))
	if err != nil {
		r.t.Fatal(err)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			r.t.Fatal(err)
		}
	}
}

func key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// manufacturer makes one and has the owner trust it and its release 1.0.0.
func (r *running) manufacturer() {
	r.t.Helper()
	r.makerKey, r.release = key(r.t), key(r.t)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, r.makerKey.Public(), r.makerKey)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.maker, err = x509.ParseCertificate(der); err != nil {
		r.t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(r.release.Public())
	if err != nil {
		r.t.Fatal(err)
	}
	r.api(http.MethodPost, "/v1/manufacturers", trust.Manufacturer{Name: "Maker", ReleaseKey: pub, Anchors: [][]byte{der}}, nil)
	env, err := release.SignReference(appraisetest.Reference(appraisetest.Good(), "1.0.0"), r.release)
	if err != nil {
		r.t.Fatal(err)
	}
	r.api(http.MethodPost, "/v1/references", json.RawMessage(env), nil)
}

// deliver gives p its IDevID, and the owner its manifest when listed is set.
func (r *running) deliver(p *phone, listed bool) {
	r.t.Helper()
	p.server, p.roots = r.phones, r.roots()
	p.idevid = r.idevid(p.id, p.keys["idevid"].Signer())
	if listed {
		r.list(p.id, p.AK(), p.idevid)
	}
}

// idevid is the manufacturer's certificate for a phone's key.
func (r *running) idevid(id device.ID, key crypto.Signer) tls.Certificate {
	r.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: device.Subject(id, "virt64"), URIs: []*url.URL{id.URN()}, NotBefore: time.Now(), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, r.maker, key.Public(), r.makerKey)
	if err != nil {
		r.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// list imports the shipping manifest of one phone.
func (r *running) list(id device.ID, ak evidence.Digest, idevid tls.Certificate) {
	r.t.Helper()
	r.api(http.MethodPost, "/v1/manifests", factory.Manifest{Manufacturer: "Maker", Created: time.Now(), Anchors: [][]byte{r.maker.Raw},
		Units: []factory.Unit{{Device: id, Model: "virt64", AK: ak, IDevID: digestOf(idevid.Certificate[0]), Voucher: []byte("voucher")}}}, nil)
}

// TestLife follows one phone from the manifest to its refusal.
func TestLife(t *testing.T) {
	r := start(t)
	p := newPhone(t, "RF-0001", appraisetest.Good())
	r.deliver(p, true)
	r.api(http.MethodPatch, "/v1/config/RF-0001", map[string]string{"line.user": "100", "line.display": "Alice"}, nil)
	if raw, _, err := do(p.connect(nil), http.MethodGet, "https://"+r.phones+enroll.VoucherPath+"RF-0001", "", nil); err != nil || string(raw) != "voucher" {
		t.Fatalf("voucher = %q, %v", raw, err)
	}
	if err := p.enroll(&p.idevid, enroll.Management, enroll.OpSimpleEnroll, nil); err != nil {
		t.Fatal(err)
	}
	management := p.certs[enroll.Management]
	if err := p.enroll(&management, enroll.SIP, enroll.OpSimpleEnroll, nil); err != nil {
		t.Fatal(err)
	}
	if got := p.certs[enroll.SIP].Leaf.URIs[0].String(); got != "sip:RF-0001@ringfence.test" {
		t.Errorf("first URI = %s", got)
	}
	if err := p.enroll(&management, enroll.Management, enroll.OpSimpleReenroll, nil); err != nil {
		t.Fatal(err)
	}
	s := p.stream(t)
	first := s.config(r.owner, 0)
	if first.Lines[0].User != "100" {
		t.Errorf("line.user = %q", first.Lines[0].User)
	}
	s.send(&wire.Message{Report: &report.Report{Status: &report.Status{Uptime: 1, Registered: true}}})
	r.api(http.MethodPatch, "/v1/config/RF-0001", map[string]string{"display.label": "Lobby"}, nil)
	if second := s.config(r.owner, first.Version); second.Display.Label != "Lobby" || second.Version != first.Version+1 {
		t.Errorf("second configuration = %+v", second)
	}
	r.expectState(t, "RF-0001", "trusted")
	late := evidence.CleanRadio()
	late.Found = []string{"bluetooth:hci0"}
	if err := p.Note(evidence.PCRRadio, evidence.KindRadio, late.Canonical()); err != nil {
		t.Fatal(err)
	}
	if bye := s.next(func(m *wire.Message) bool { return m.Bye != nil }); !strings.Contains(bye.Bye.Reason, "radio found: bluetooth:hci0") {
		t.Errorf("bye = %q", bye.Bye.Reason)
	}
	d := r.expectState(t, "RF-0001", "refused")
	if !strings.Contains(d.Reason, "radio found: bluetooth:hci0") || d.Status == nil {
		t.Errorf("device = %+v", d)
	}
	var v admin.Verified
	if r.api(http.MethodGet, "/v1/audit/verify", nil, &v); !v.OK || v.Head.Seq < 5 {
		t.Errorf("audit verify = %+v", v)
	}
}

func (r *running) expectState(t *testing.T, id device.ID, state string) admin.Device {
	t.Helper()
	var d admin.Device
	r.api(http.MethodGet, "/v1/devices/"+string(id), nil, &d)
	if string(d.State) != state {
		t.Fatalf("state of %s = %s (%s), want %s", id, d.State, d.Reason, state)
	}
	return d
}

// TestEnrollRefusals: each case breaks one condition of enrolment.
func TestEnrollRefusals(t *testing.T) {
	r := start(t)
	p, stranger := newPhone(t, "RF-0001", appraisetest.Good()), newPhone(t, "RF-0002", appraisetest.Good())
	r.deliver(p, true)
	r.deliver(stranger, false)
	foreign := p.idevid
	foreign.PrivateKey = key(t)
	self := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: device.Subject(p.id, "virt64"), URIs: []*url.URL{p.id.URN()}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, self, self, foreign.PrivateKey.(*ecdsa.PrivateKey).Public(), foreign.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	foreign.Certificate = [][]byte{der}
	for _, c := range []struct {
		name  string
		phone *phone
		cert  *tls.Certificate
		label enroll.Label
		op    string
		edit  func(*evidence.Evidence)
		want  string
	}{
		{"not listed", stranger, &stranger.idevid, enroll.Management, enroll.OpSimpleEnroll, nil, "not on the allow-list"},
		{"no certificate", p, nil, enroll.Management, enroll.OpSimpleEnroll, nil, "no client certificate"},
		{"self-made IDevID", p, &foreign, enroll.Management, enroll.OpSimpleEnroll, nil, "not the one in its shipping manifest"},
		{"IDevID for sip", p, &p.idevid, enroll.SIP, enroll.OpSimpleEnroll, nil, "wants a management certificate"},
		{"IDevID for reenroll", p, &p.idevid, enroll.Management, enroll.OpSimpleReenroll, nil, "this is an IDevID"},
		{"unknown label", p, &p.idevid, "other", enroll.OpSimpleEnroll, nil, "want management or sip"},
		{"no seal key", p, &p.idevid, enroll.Management, enroll.OpSimpleEnroll, func(ev *evidence.Evidence) {
			for i := range ev.Keys {
				if ev.Keys[i].Use == evidence.UseSeal {
					ev.Keys = append(ev.Keys[:i], ev.Keys[i+1:]...)
					return
				}
			}
		}, `no certified \"seal\" key`},
		{"truncated log", p, &p.idevid, enroll.Management, enroll.OpSimpleEnroll, func(ev *evidence.Evidence) { ev.EventLog = ev.EventLog[:100] }, "event log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.phone.enroll(c.cert, c.label, c.op, c.edit)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("enroll = %v, want %q", err, c.want)
			}
		})
	}
	if err := p.enroll(&p.idevid, enroll.Management, enroll.OpSimpleEnroll, nil); err != nil {
		t.Errorf("the good phone afterwards: %v", err)
	}
}

// TestTampered: the service names what differs in a phone that boots another
// kernel under the same keys.
func TestTampered(t *testing.T) {
	r := start(t)
	boot := appraisetest.Good()
	boot.Kernel += "!"
	p := newPhone(t, "RF-0003", boot)
	r.deliver(p, true)
	err := p.enroll(&p.idevid, enroll.Management, enroll.OpSimpleEnroll, nil)
	if err == nil || !strings.Contains(err.Error(), "kernel differs: measured ") {
		t.Errorf("enroll = %v, want the kernel named", err)
	}
	r.expectState(t, "RF-0003", "refused")
}

// TestBadRequests: malformed and oversized requests are answered with a
// problem, audited, and change nothing.
func TestBadRequests(t *testing.T) {
	r := start(t)
	p := newPhone(t, "RF-0001", appraisetest.Good())
	r.deliver(p, true)
	stranger := p.connect(nil)
	long := strings.Repeat("x", 3<<20)
	for _, c := range []struct {
		client       *http.Client
		method, path string
		body, want   string
	}{
		{r.operator, "PATCH", r.base + "/v1/config/site", `{"nonsense":"1"}`, "422"},
		{r.operator, "PATCH", r.base + "/v1/config/site", `{"line.user":"1"}`, "422"},
		{r.operator, "PATCH", r.base + "/v1/config/site", `{"media.suites":"NULL"}`, "422"},
		{r.operator, "PATCH", r.base + "/v1/config/site", `{`, "400"},
		{r.operator, "PATCH", r.base + "/v1/config/site", long, "413"},
		{r.operator, "PATCH", r.base + "/v1/config/RF-9999", `{}`, "404"},
		{r.operator, "POST", r.base + "/v1/references", `{"payloadType":"x"}`, "422"},
		{r.operator, "POST", r.base + "/v1/manifests", `{"manufacturer":"Nobody"}`, "422"},
		{r.operator, "POST", r.base + "/v1/manufacturers", `{"name":"x","extra":1}`, "400"},
		{r.operator, "GET", r.base + "/v2", "", "404"},
		{stranger, "GET", "https://" + r.phones + "/", "", "404"},
		{stranger, "GET", "https://" + r.phones + enroll.VoucherPath + "bad%20id", "", "400"},
		{stranger, "GET", "https://" + r.phones + enroll.VoucherPath + "RF-9999", "", "404"},
		{stranger, "POST", "https://" + r.phones + enroll.PathPrefix + "management/simpleenroll", long, "403"},
	} {
		before := r.head()
		_, _, err := do(c.client, c.method, c.path, "application/json", strings.NewReader(c.body))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || !strings.Contains(err.Error(), "urn:ringfence:problem:") {
			t.Errorf("%s %s %.30s = %v, want problem %s", c.method, c.path, c.body, err, c.want)
		}
		if after := r.head(); after != before+1 {
			t.Errorf("%s %s %.30s: %d audit events, want 1", c.method, c.path, c.body, after-before)
		}
	}
	var s admin.Settings
	if r.api(http.MethodGet, "/v1/config/site", nil, &s); len(s.Own) != 0 {
		t.Errorf("site settings changed: %v", s.Own)
	}
	anonymous := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots()}}}
	if _, _, err := do(anonymous, http.MethodGet, r.base+"/v1/status", "", nil); err == nil {
		t.Error("the admin API answers without a client certificate")
	}
}

func (r *running) head() uint64 {
	var s admin.Status
	r.api(http.MethodGet, "/v1/status", nil, &s)
	return s.AuditHead
}

func TestOldTLS(t *testing.T) {
	r := start(t)
	if _, err := tls.Dial("tcp", r.phones, &tls.Config{RootCAs: r.roots(), ServerName: "localhost", MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 is accepted")
	}
}
