package callserver

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/firmware/sdp"
	"ringfence/firmware/sip"
	"ringfence/provisioning/registrar"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
	"ringfence/tools/tooltest"
)

const domain = "ringfence.test"

// opaque hides the concrete key: a signer in another process is no more.
type opaque struct{ crypto.Signer }

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t testing.TB, name string) authority {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) issue(t testing.TB, key crypto.Signer, edit func(*x509.Certificate)) []byte {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature}
	edit(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sipCert is the profile of a phone's SIP certificate.
func sipCert(id device.ID) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: string(id)}
		c.URIs = []*url.URL{id.SIPURI(domain), id.URN()}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

func TestMain(m *testing.M) {
	sip.QuietLibrary()
	os.Exit(m.Run())
}

type lab struct {
	t      testing.TB
	dir    string
	site   registrar.Site
	owner  authority
	sipCA  authority
	server *Server
	conn   *registrar.Connector
}

func freePort(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newLab starts a real Kamailio and a connector that reconciles.
func newLab(t testing.TB) *lab {
	t.Helper()
	if !Installed() {
		tooltest.Missingf(t, "kamailio is not installed (scripts/setup installs it)")
	}
	l := &lab{t: t, dir: t.TempDir(), owner: newAuthority(t, "owner"), sipCA: newAuthority(t, "sip")}
	key := newKey(t)
	der := l.owner.issue(t, key, func(c *x509.Certificate) {
		c.Subject, c.DNSNames = pkix.Name{CommonName: "sip." + domain}, []string{"sip." + domain}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(l.dir, name) }
	writePEM(t, file("server.pem"), "CERTIFICATE", der)
	writePEM(t, file("server.key"), "PRIVATE KEY", pkcs8)
	writePEM(t, file("sip-ca.pem"), "CERTIFICATE", l.sipCA.cert.Raw)
	l.site = registrar.Site{Listen: freePort(t), Admin: freePort(t), Domain: domain, Certificate: file("server.pem"), Key: file("server.key"),
		SIPCA: file("sip-ca.pem"), Workers: 2}
	l.start()
	l.conn, err = registrar.New(registrar.Config{Admin: l.site.Admin, Domain: domain, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Interval: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.conn.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); l.server.Stop() })
	return l
}

func (l *lab) start() {
	l.t.Helper()
	s, err := Start(context.Background(), l.dir, l.site)
	if err != nil {
		l.t.Fatal(err)
	}
	l.server = s
}

func (l *lab) allow(id device.ID, user string) {
	l.t.Helper()
	if err := l.conn.Allow(context.Background(), id, user); err != nil {
		l.t.Fatal(err)
	}
}

// fakeMedia records what the signalling asks of it.
type fakeMedia struct {
	port    uint16
	started chan sdp.Stream
}

func (m *fakeMedia) Reserve(context.Context) (uint16, error)     { return m.port, nil }
func (m *fakeMedia) Start(_ context.Context, s sdp.Stream) error { m.started <- s; return nil }
func (m *fakeMedia) Stop() report.Call                           { return report.Call{Sent: 7} }

type phone struct {
	*sip.Phone
	t      testing.TB
	media  *fakeMedia
	events chan sip.Event
	stop   func()
}

// phone starts a phone with the certificate that edit makes of ca.
func (l *lab) phone(id device.ID, user string, ca authority, edit func(*x509.Certificate), change ...func(*sip.Config)) *phone {
	l.t.Helper()
	key := newKey(l.t)
	der := ca.issue(l.t, key, edit)
	roots := x509.NewCertPool()
	roots.AddCert(l.owner.cert)
	p := &phone{t: l.t, media: &fakeMedia{port: 20000, started: make(chan sdp.Stream, 4)}, events: make(chan sip.Event, 64)}
	cfg := sip.Config{User: user, Domain: domain, Server: l.site.Listen.String(), ServerName: "sip." + domain, CAs: roots,
		Certificate: func() (tls.Certificate, error) {
			return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: opaque{key}}, nil
		},
		Policy: sdp.Policy{Codecs: []lock.Codec{lock.G722}, Suites: []lock.Suite{lock.AEADAES256GCM}}, Media: p.media,
		Log: slog.New(slog.NewTextHandler(l.t.Output(), nil)).With("user", user), Events: func(e sip.Event) { p.events <- e },
		RetryBase: 200 * time.Millisecond, RetryMax: time.Second, Emergency: []string{"112"}}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if p.Phone, err = sip.New(cfg); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	p.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	l.t.Cleanup(p.stop)
	return p
}

// good starts an allowed phone and waits until it is registered.
func (l *lab) good(id device.ID, user string, change ...func(*sip.Config)) *phone {
	l.t.Helper()
	l.allow(id, user)
	p := l.phone(id, user, l.sipCA, sipCert(id), change...)
	for {
		e := <-p.events
		if e.Kind == sip.Registered {
			return p
		}
		if !strings.Contains(e.Reason, "503 Starting") { // the table may not be filled yet
			l.t.Fatalf("%s is not registered: %s", id, e.Reason)
		}
	}
}

// expect returns the next event of kind and fails on any other.
func (p *phone) expect(kind sip.Kind) sip.Event {
	p.t.Helper()
	select {
	case e := <-p.events:
		if e.Kind != kind {
			p.t.Fatalf("event %q (%s), want %q", e.Kind, e.Reason, kind)
		}
		return e
	case <-time.After(8 * time.Second):
		p.t.Fatalf("no event, want %q", kind)
	}
	return sip.Event{}
}

func equalKeys(a, b sdp.Stream) bool {
	return bytes.Equal(a.LocalKey, b.RemoteKey) && bytes.Equal(a.RemoteKey, b.LocalKey) && !bytes.Equal(a.LocalKey, a.RemoteKey)
}
