package main

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/lock"
)

// phone is the client half, on a real TPM.
type phone struct {
	*appraisetest.Phone
	id     device.ID
	server string
	roots  *x509.CertPool
	idevid tls.Certificate
	keys   map[string]*appraisetest.Key
	certs  map[enroll.Label]tls.Certificate
}

func newPhone(t testing.TB, id device.ID, boot appraisetest.Boot) *phone {
	t.Helper()
	p := &phone{Phone: appraisetest.Start(t, boot), id: id, keys: make(map[string]*appraisetest.Key), certs: make(map[enroll.Label]tls.Certificate)}
	for _, use := range []string{"idevid", evidence.UseManagement, evidence.UseSIP} {
		key, err := p.NewKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		p.keys[use] = key
	}
	seal, err := p.NewSealKey()
	if err != nil {
		t.Fatal(err)
	}
	p.keys[evidence.UseSeal] = seal
	return p
}

// connect returns a client that keeps one connection.
func (p *phone) connect(cert *tls.Certificate) *http.Client {
	cfg := &tls.Config{RootCAs: p.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: cfg, MaxConnsPerHost: 1}}
}

func do(c *http.Client, method, url, kind string, body io.Reader) ([]byte, *tls.ConnectionState, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", kind)
	rsp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer rsp.Body.Close()
	raw, err := io.ReadAll(rsp.Body)
	if err == nil && rsp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", rsp.Status, raw)
	}
	return raw, rsp.TLS, err
}

// enroll gets one certificate; edit may spoil the evidence. The same request
// again must be refused.
func (p *phone) enroll(client *tls.Certificate, label enroll.Label, op string, edit func(*evidence.Evidence)) error {
	c := p.connect(client)
	defer c.CloseIdleConnections()
	base := "https://" + p.server + enroll.PathPrefix + string(label) + "/"
	body, raw, err := exchange(c, base, op, func(attrs []byte, state *tls.ConnectionState) ([]byte, error) {
		return p.request(attrs, state, label, edit)
	})
	if err != nil {
		return err
	}
	if _, _, err := do(c, http.MethodPost, base+op, "application/pkcs10", bytes.NewReader(body)); err == nil {
		return errors.New("the same request was served twice on one nonce")
	}
	issued, err := issuedBy(raw)
	if err != nil {
		return err
	}
	p.certs[label] = tls.Certificate{Certificate: [][]byte{issued.Raw}, PrivateKey: p.keys[string(label)].Signer(), Leaf: issued}
	return nil
}

// exchange is csrattrs and an enrolment on one connection; it returns the
// request and the answer.
func exchange(c *http.Client, base, op string, request func([]byte, *tls.ConnectionState) ([]byte, error)) (body, raw []byte, err error) {
	attrs, state, err := do(c, http.MethodGet, base+enroll.OpCSRAttrs, "", nil)
	if err != nil {
		return nil, nil, err
	}
	if body, err = request(attrs, state); err != nil {
		return nil, nil, err
	}
	raw, _, err = do(c, http.MethodPost, base+op, "application/pkcs10", bytes.NewReader(body))
	return body, raw, err
}

func issuedBy(raw []byte) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(raw)))
	if err != nil {
		return nil, err
	}
	bundle, err := pkcs7.Parse(der)
	if err != nil {
		return nil, err
	}
	return bundle.Certificates[0], nil
}

func (p *phone) request(attrs []byte, state *tls.ConnectionState, label enroll.Label, edit func(*evidence.Evidence)) ([]byte, error) {
	nonce, exporter, err := challenge(attrs, state)
	if err != nil {
		return nil, err
	}
	key := p.keys[string(label)]
	spki, err := x509.MarshalPKIXPublicKey(key.PublicKey())
	if err != nil {
		return nil, err
	}
	shown := map[string]*appraisetest.Key{string(label): key}
	if label == enroll.Management {
		shown[evidence.UseSeal] = p.keys[evidence.UseSeal]
	}
	ev, err := p.Prove(nonce, spki, exporter, shown)
	if err != nil {
		return nil, err
	}
	if edit != nil {
		edit(ev)
	}
	return signRequest(p.id, ev, key.Signer())
}

// challenge is what evidence must answer on a connection.
func challenge(attrs []byte, state *tls.ConnectionState) (nonce, exporter []byte, err error) {
	der, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(attrs)))
	if err != nil {
		return nil, nil, err
	}
	if nonce, err = enroll.ParseCSRAttrs(der); err != nil {
		return nil, nil, err
	}
	exporter, err = state.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	return nonce, exporter, err
}

func signRequest(id device.ID, ev *evidence.Evidence, key crypto.Signer) ([]byte, error) {
	text, err := ev.Encode()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(id)},
		ExtraExtensions: []pkix.Extension{{Id: enroll.OIDEvidence, Value: text}}}, key)
	return []byte(base64.StdEncoding.EncodeToString(csr)), err
}

// stream is an open management stream.
type stream struct {
	*tls.Conn
	phone *phone
	t     *testing.T
}

func (p *phone) stream(t *testing.T) *stream {
	t.Helper()
	conn, err := tls.Dial("tcp", p.server, &tls.Config{RootCAs: p.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13,
		NextProtos: []string{wire.ALPN}, Certificates: []tls.Certificate{p.certs[enroll.Management]}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &stream{conn, p, t}
	s.send(&wire.Message{Hello: &wire.Hello{Protocol: wire.Protocol, Schema: lock.Schema, Release: "1.0.0", BootID: "b1"}})
	return s
}

func (s *stream) send(m *wire.Message) {
	s.t.Helper()
	frame, err := wire.AppendFrame(nil, m)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Write(frame); err != nil {
		s.t.Fatal(err)
	}
}

// next answers challenges until a message comes that want accepts.
func (s *stream) next(want func(*wire.Message) bool) *wire.Message {
	s.t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	for {
		m, err := wire.ReadFrame(s)
		if err != nil {
			s.t.Fatal(err)
		}
		if want(m) {
			return m
		}
		if m.Bye != nil {
			s.t.Fatalf("bye: %s", m.Bye.Reason)
		}
		if m.Challenge != nil {
			s.prove(m.Challenge.Nonce)
		}
	}
}

func (s *stream) prove(nonce []byte) {
	s.t.Helper()
	state := s.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	if err != nil {
		s.t.Fatal(err)
	}
	ev, err := s.phone.Prove(nonce, s.phone.certs[enroll.Management].Leaf.RawSubjectPublicKeyInfo, exporter, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.send(&wire.Message{Evidence: ev})
}

// config waits for a configuration and opens it with the TPM's key.
func (s *stream) config(owner *x509.Certificate, floor uint64) *lock.Config {
	s.t.Helper()
	m := s.next(func(m *wire.Message) bool { return m.Config != nil })
	key, err := hpke.NewDHKEMPrivateKey(exchanger{s.phone.keys[evidence.UseSeal]})
	if err != nil {
		s.t.Fatal(err)
	}
	cfg, err := lock.Open(m.Config.Sealed, key, s.phone.id, owner, floor, false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.send(&wire.Message{Result: &wire.Result{Version: cfg.Version, OK: true}})
	return cfg
}

// exchanger is ecdh.KeyExchanger on the TPM.
type exchanger struct{ key *appraisetest.Key }

func (e exchanger) Curve() ecdh.Curve { return ecdh.P256() }

func (e exchanger) PublicKey() *ecdh.PublicKey {
	pub, err := e.key.PublicKey().ECDH()
	if err != nil {
		panic(err)
	}
	return pub
}

func (e exchanger) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	raw := peer.Bytes()
	return e.key.ECDH(raw[1:33], raw[33:])
}

func digestOf(raw []byte) evidence.Digest { return sha256.Sum256(raw) }
