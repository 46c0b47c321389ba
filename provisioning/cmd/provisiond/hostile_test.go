package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/audit"
	"ringfence/provisioning/ca"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

// hostile is a running service with one good phone, and those who attack it.
type hostile struct {
	*running
	p *phone
}

func newHostile(t *testing.T) *hostile {
	h := &hostile{running: start(t)}
	h.p = newPhone(t, "RF-0001", appraisetest.Good())
	h.deliver(h.p, true)
	if err := h.p.enroll(&h.p.idevid, enroll.Management, enroll.OpSimpleEnroll, nil); err != nil {
		t.Fatal(err)
	}
	return h
}

// authority loads one of the site's own authorities.
func (h *hostile) authority(name string) *ca.CA {
	h.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(h.dir, name+"-ca.pem"), filepath.Join(h.dir, name+"-ca.key"))
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := ca.New(pair.Leaf, pair.PrivateKey.(crypto.Signer))
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// certify has by make a certificate for a fresh key.
func (h *hostile) certify(by func(crypto.PublicKey) (*x509.Certificate, error)) *tls.Certificate {
	h.t.Helper()
	k := key(h.t)
	cert, err := by(k.Public())
	if err != nil {
		h.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: k, Leaf: cert}
}

// foreign is another owner's authority.
func (h *hostile) foreign(name string) *ca.CA {
	h.t.Helper()
	c, err := ca.NewRoot(name, key(h.t), time.Now(), time.Hour)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *hostile) management(by *ca.CA, age time.Duration) *tls.Certificate {
	return h.certify(func(pub crypto.PublicKey) (*x509.Certificate, error) {
		return by.Management("RF-0001", pub, time.Now().Add(-age), time.Hour)
	})
}

// world is all that an attack must not change: devices but for what the good
// phone itself does, settings, references.
func (h *hostile) world() string {
	h.t.Helper()
	var all []any
	for _, path := range []string{"/v1/devices", "/v1/config/site", "/v1/config/RF-0001", "/v1/references", "/v1/manufacturers"} {
		var answer any
		h.api(http.MethodGet, path, nil, &answer)
		all = append(all, answer)
	}
	text, err := json.Marshal(all)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

// refuses runs one attack and asserts: refused with want in its error, one
// audit event that says it too, nothing changed, service unharmed.
func (h *hostile) refuses(t *testing.T, want string, attack func() error) {
	t.Helper()
	before, head := h.world(), h.head()
	err := attack()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("answer = %v, want %q", err, want)
	}
	var events []audit.Event
	for range 100 { // a stream's end is noted after its last word was sent
		if h.api(http.MethodGet, "/v1/audit?after="+strconv.FormatUint(head, 10), nil, &events); len(events) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(events) != 1 || !strings.Contains(events[0].Detail, strings.ReplaceAll(want, `\"`, `"`)) {
		t.Errorf("audit events = %+v, want one with %q", events, want)
	}
	if after := h.world(); after != before {
		t.Errorf("changed:\n%s\nto\n%s", before, after)
	}
}

// unharmed: after all that the good phone is served, and the audit list holds.
func (h *hostile) unharmed(t *testing.T) {
	t.Helper()
	if err := h.p.enroll(&h.p.idevid, enroll.Management, enroll.OpSimpleEnroll, nil); err != nil {
		t.Errorf("the good phone afterwards: %v", err)
	}
	var v admin.Verified
	if h.api(http.MethodGet, "/v1/audit/verify", nil, &v); !v.OK {
		t.Errorf("audit verify = %+v", v)
	}
}

// TestWrongCertificates: every endpoint that wants one, against a missing, a
// foreign, an expired and another kind's certificate.
func TestWrongCertificates(t *testing.T) {
	h := newHostile(t)
	est := "https://" + h.phones + enroll.PathPrefix
	mine, operators := h.authority("management"), h.authority("admin")
	operator := func(by *ca.CA, age time.Duration) *tls.Certificate {
		return h.certify(func(pub crypto.PublicKey) (*x509.Certificate, error) {
			return by.Admin("mallory", pub, time.Now().Add(-age), time.Hour)
		})
	}
	web := func(method, url string) func(*tls.Certificate) error {
		return func(c *tls.Certificate) error {
			_, _, err := do(h.p.connect(c), method, url, "application/pkcs10", nil)
			return err
		}
	}
	type certificate struct {
		name string
		cert *tls.Certificate
		want string
	}
	phones := []certificate{{"missing", nil, "no client certificate"}, {"foreign", h.management(h.foreign("other"), 0), "unknown authority"},
		{"expired", h.management(mine, 2*time.Hour), "expired"}, {"operator's", operator(operators, 0), "unknown authority"}}
	admins := []certificate{{"missing", nil, "no client certificate"}, {"foreign", operator(h.foreign("other"), 0), "unknown authority"},
		{"expired", operator(operators, 2*time.Hour), "expired"}, {"phone's", h.management(mine, 0), "unknown authority"}}
	for _, c := range []struct {
		endpoint string
		call     func(*tls.Certificate) error
		certs    []certificate
	}{
		{"csrattrs management", web("GET", est+"management/csrattrs"), phones},
		{"csrattrs sip", web("GET", est+"sip/csrattrs"), phones},
		{"simpleenroll", web("POST", est+"management/simpleenroll"), phones},
		{"simplereenroll", web("POST", est+"management/simplereenroll"), phones},
		{"stream", func(c *tls.Certificate) error { return h.streamEnd(c, hello()) }, append(phones, certificate{"IDevID", &h.p.idevid, "unknown authority"})},
		{"admin status", web("GET", h.base+"/v1/status"), admins},
		{"admin config", web("PATCH", h.base+"/v1/config/site"), admins},
	} {
		for _, k := range c.certs {
			t.Run(c.endpoint+" "+k.name, func(t *testing.T) {
				h.refuses(t, k.want, func() error { return c.call(k.cert) })
			})
		}
	}
	h.unharmed(t)
}

func hello() []byte {
	return frame(&wire.Message{Hello: &wire.Hello{Protocol: wire.Protocol, Schema: lock.Schema, Release: "1.0.0", BootID: "b"}})
}

func frame(m *wire.Message) []byte {
	raw, err := wire.AppendFrame(nil, m)
	if err != nil {
		panic(err) // a message of this file
	}
	return raw
}

func rawFrame(size int, body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(size)), body...)
}

// streamEnd sends bytes on a stream and returns the reason of its end.
func (h *hostile) streamEnd(cert *tls.Certificate, parts ...[]byte) error {
	cfg := &tls.Config{RootCAs: h.p.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, NextProtos: []string{wire.ALPN}}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	conn, err := tls.Dial("tcp", h.phones, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if cert != nil && cert.Leaf != nil && len(parts) > 0 {
		_, _ = conn.Write(bytes.Join(parts, nil)) // the service may have closed: the reader sees why
	}
	for {
		m, err := wire.ReadFrame(conn)
		if err != nil {
			return err
		}
		if m.Bye != nil {
			return byeError(m.Bye.Reason)
		}
	}
}

type byeError string

func (e byeError) Error() string { return string(e) }

// TestHostileFrames: each is one fault of the protocol before any proof.
func TestHostileFrames(t *testing.T) {
	h := newHostile(t)
	cert := h.p.certs[enroll.Management]
	for _, c := range []struct {
		name  string
		parts [][]byte
		want  string
	}{
		{"4 GiB", [][]byte{rawFrame(1<<32-1, "")}, "larger than its limit"},
		{"no JSON", [][]byte{rawFrame(3, "\xff\x00{")}, "decode frame"},
		{"unknown field", [][]byte{rawFrame(11, `{"evil":{}}`)}, "unknown field"},
		{"two messages", [][]byte{rawFrame(21, `{"ping":{},"bye":{} }`)}, "2 messages"},
		{"none", [][]byte{rawFrame(2, `{}`)}, "0 messages"},
		{"trailing data", [][]byte{rawFrame(14, `{"ping":{}} {}`)}, "data after"},
		{"not hello first", [][]byte{frame(&wire.Message{Ping: &wire.Ping{}})}, "no hello"},
		{"4 GiB after hello", [][]byte{hello(), rawFrame(1<<32-1, "")}, "larger than its limit"},
		{"deep JSON after hello", [][]byte{hello(), rawFrame(200000, strings.Repeat("[", 200000))}, "decode frame"},
		{"hello again", [][]byte{hello(), hello()}, "not expected"},
		{"a server's message", [][]byte{hello(), frame(&wire.Message{Config: &wire.Config{}})}, "not expected"},
		{"flood", [][]byte{hello(), bytes.Repeat(frame(&wire.Message{Ping: &wire.Ping{Answer: true}}), 300)}, "frames a minute"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.refuses(t, c.want, func() error { return h.streamEnd(&cert, c.parts...) })
		})
	}
	h.unharmed(t)
}

// TestHostileAfterProof: what a phone that has proved itself may not say.
func TestHostileAfterProof(t *testing.T) {
	h := newHostile(t)
	h.api(http.MethodPatch, "/v1/config/RF-0001", map[string]string{"line.user": "100"}, nil)
	for _, c := range []struct {
		name string
		m    *wire.Message
		want string
	}{
		{"result of the future", &wire.Message{Result: &wire.Result{Version: 1 << 40, OK: true}}, "never sent"},
		{"long report", &wire.Message{Report: &report.Report{Events: make([]report.Event, 65)}}, "65 events"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := h.p.stream(t)
			s.config(h.owner, 0)
			s.send(c.m)
			if bye := s.next(func(m *wire.Message) bool { return m.Bye != nil }); !strings.Contains(bye.Bye.Reason, c.want) {
				t.Errorf("bye = %q, want %q", bye.Bye.Reason, c.want)
			}
			var d admin.Device
			if h.api(http.MethodGet, "/v1/devices/RF-0001", nil, &d); d.ConfigSeen >= 1<<40 {
				t.Errorf("configuration seen = %d", d.ConfigSeen)
			}
			s.Close()
		})
	}
	h.unharmed(t)
}

// post asks for a nonce and posts what make makes of it on the same connection.
func (h *hostile) post(kind string, made func(attrs []byte, state *tls.ConnectionState) ([]byte, error)) error {
	c := h.p.connect(&h.p.idevid)
	defer c.CloseIdleConnections()
	base := "https://" + h.phones + enroll.PathPrefix + "management/"
	attrs, state, err := do(c, http.MethodGet, base+enroll.OpCSRAttrs, "", nil)
	if err != nil {
		return err
	}
	body, err := made(attrs, state)
	if err != nil {
		return err
	}
	_, _, err = do(c, http.MethodPost, base+enroll.OpSimpleEnroll, kind, bytes.NewReader(body))
	return err
}

// csr is a well-formed request with these extensions.
func (h *hostile) csr(name string, values ...[]byte) ([]byte, error) {
	var extensions []pkix.Extension
	for _, v := range values {
		extensions = append(extensions, pkix.Extension{Id: enroll.OIDEvidence, Value: v})
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, ExtraExtensions: extensions},
		h.p.keys[evidence.UseManagement].Signer())
	return []byte(base64.StdEncoding.EncodeToString(der)), err
}

// TestHostileRequests: each certificate request has one thing wrong.
func TestHostileRequests(t *testing.T) {
	h := newHostile(t)
	text := func(s string) func([]byte, *tls.ConnectionState) ([]byte, error) {
		return func([]byte, *tls.ConnectionState) ([]byte, error) { return []byte(s), nil }
	}
	request := func(name string, values ...string) func([]byte, *tls.ConnectionState) ([]byte, error) {
		return func([]byte, *tls.ConnectionState) ([]byte, error) {
			var raw [][]byte
			for _, v := range values {
				raw = append(raw, []byte(v))
			}
			return h.csr(name, raw...)
		}
	}
	broken := func(attrs []byte, state *tls.ConnectionState) ([]byte, error) {
		body, err := h.p.request(attrs, state, enroll.Management, nil)
		if err != nil {
			return nil, err
		}
		der, err := base64.StdEncoding.DecodeString(string(body))
		der[len(der)-1] ^= 1
		return []byte(base64.StdEncoding.EncodeToString(der)), err
	}
	const pkcs10 = "application/pkcs10"
	for _, c := range []struct {
		name, kind, want string
		made             func([]byte, *tls.ConnectionState) ([]byte, error)
	}{
		{"media type", "text/plain", "Wrong content type", text("x")},
		{"empty", pkcs10, "PKCS#10", text("")},
		{"no base64", pkcs10, "not base64", text("%%%%")},
		{"no request", pkcs10, "not a PKCS#10 request", text("AAAA")},
		{"too large", pkcs10, "too large", text(strings.Repeat("A", 2<<20))},
		{"proof of possession", pkcs10, "proof of possession", broken},
		{"no evidence", pkcs10, "no evidence", request("RF-0001")},
		{"evidence of no form", pkcs10, "evidence", request("RF-0001", "{")},
		{"unknown field in the evidence", pkcs10, "unknown field", request("RF-0001", `{"evil":1}`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.refuses(t, c.want, func() error { return h.post(c.kind, c.made) })
		})
	}
	t.Run("no nonce", func(t *testing.T) {
		h.refuses(t, "no fresh nonce", func() error {
			_, _, err := do(h.p.connect(&h.p.idevid), http.MethodPost, "https://"+h.phones+enroll.PathPrefix+"management/simpleenroll", pkcs10, nil)
			return err
		})
	})
	h.unharmed(t)
}

// TestHostileEvidence: each evidence has one thing wrong; the phone is marked
// refused, and only that.
func TestHostileEvidence(t *testing.T) {
	h := newHostile(t)
	other := newPhone(t, "RF-0001", appraisetest.Good()) // another TPM
	for _, c := range []struct {
		name, want string
		edit       func(*evidence.Evidence)
	}{
		{"PCR", "register values", func(ev *evidence.Evidence) { ev.PCRValues[7][0] ^= 1 }},
		{"quote", "quote", func(ev *evidence.Evidence) { ev.Quote[len(ev.Quote)-1] ^= 1 }},
		{"cut event log", "event log", func(ev *evidence.Evidence) { ev.EventLog = ev.EventLog[:100] }},
		{"key of another phone", "attestation key", func(ev *evidence.Evidence) {
			stolen, err := other.Prove(make([]byte, enroll.NonceSize), nil, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			ev.AK, ev.Quote, ev.QuoteSignature = stolen.AK, stolen.Quote, stolen.QuoteSignature
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := h.p.enroll(&h.p.idevid, enroll.Management, enroll.OpSimpleEnroll, c.edit)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("enroll = %v, want %q", err, c.want)
			}
			h.expectState(t, "RF-0001", "refused")
		})
	}
	t.Run("nonce of another connection", func(t *testing.T) {
		var first []byte
		if err := h.post("text/plain", func(attrs []byte, _ *tls.ConnectionState) ([]byte, error) { first = attrs; return nil, nil }); err == nil {
			t.Fatal("no refusal")
		}
		err := h.post("application/pkcs10", func(_ []byte, state *tls.ConnectionState) ([]byte, error) {
			return h.p.request(first, state, enroll.Management, nil)
		})
		if err == nil || !strings.Contains(err.Error(), "nonce") {
			t.Errorf("enroll = %v, want the nonce named", err)
		}
	})
	h.unharmed(t)
}

// TestNoise: bytes that are no protocol, and peers that say nothing, harm nobody.
func TestNoise(t *testing.T) {
	h := newHostile(t)
	before := h.world()
	for _, addr := range []string{h.phones, strings.TrimPrefix(h.base, "https://")} {
		for _, noise := range []string{"", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff" + strings.Repeat("\xff", 70000)} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() // the silent ones stay until the end
			_, _ = io.WriteString(conn, noise)
		}
		tlsConn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: h.roots(), ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer tlsConn.Close()
		_, _ = io.WriteString(tlsConn, "\x00\xff\r\n\r\n")
	}
	path := "https://" + h.phones + "/%ff%1b[2J" // no UTF-8, and a terminal's command
	if _, _, err := do(h.p.connect(nil), http.MethodGet, path, "", nil); err == nil {
		t.Error("a path of noise is served")
	}
	if after := h.world(); after != before {
		t.Errorf("changed:\n%s\nto\n%s", before, after)
	}
	h.unharmed(t)
}

// TestLineOfAnother: the operator is told which phone has the line.
func TestLineOfAnother(t *testing.T) {
	h := newHostile(t)
	h.deliver(newPhone(t, "RF-0002", appraisetest.Good()), true)
	h.api(http.MethodPatch, "/v1/config/RF-0001", map[string]string{"line.user": "100"}, nil)
	h.refuses(t, `of RF-0002: RF-0001 has it`, func() error {
		_, _, err := do(h.operator, http.MethodPatch, h.base+"/v1/config/RF-0002", "application/json", strings.NewReader(`{"line.user":"100"}`))
		return err
	})
	h.api(http.MethodPost, "/v1/devices/RF-0001/retire", nil, nil)
	h.api(http.MethodPatch, "/v1/config/RF-0002", map[string]string{"line.user": "100"}, nil) // the line is free
}

// TestRadioIsProvedAtOnce: with half a minute between proofs, a phone that
// reports a radio is challenged now.
func TestRadioIsProvedAtOnce(t *testing.T) {
	h := &hostile{running: startEvery(t, "30s")}
	h.p = newPhone(t, "RF-0001", appraisetest.Good())
	h.deliver(h.p, true)
	h.api(http.MethodPatch, "/v1/config/RF-0001", map[string]string{"line.user": "100"}, nil)
	if err := h.p.enroll(&h.p.idevid, enroll.Management, enroll.OpSimpleEnroll, nil); err != nil {
		t.Fatal(err)
	}
	s := h.p.stream(t)
	s.config(h.owner, 0)
	late := evidence.CleanRadio()
	late.Found = []string{"bluetooth:hci0"}
	if err := h.p.Note(evidence.PCRRadio, evidence.KindRadio, late.Canonical()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.send(&wire.Message{Report: &report.Report{Events: []report.Event{{Name: report.RadioFound, Role: "init"}}}})
	if bye := s.next(func(m *wire.Message) bool { return m.Bye != nil }); !strings.Contains(bye.Bye.Reason, "radio found") {
		t.Errorf("bye = %q", bye.Bye.Reason)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("refused after %v", took)
	}
}

// TestHostileWords: what a phone says reaches the operator as one printable,
// short line.
func TestHostileWords(t *testing.T) {
	h := newHostile(t)
	h.api(http.MethodPatch, "/v1/config/RF-0001", map[string]string{"line.user": "100"}, nil)
	s := h.p.stream(t)
	cfg := s.config(h.owner, 0)
	const evil = "\x1b]0;owned\a\u009b2J\u202e"
	s.send(&wire.Message{Result: &wire.Result{Version: cfg.Version, Cause: evil, Error: strings.Repeat("x", 100000)}})
	finding := evidence.CleanRadio()
	finding.Found = []string{"bluetooth:" + evil}
	if err := h.p.Note(evidence.PCRRadio, evidence.KindRadio, finding.Canonical()); err != nil {
		t.Fatal(err)
	}
	s.next(func(m *wire.Message) bool { return m.Bye != nil })
	d := h.expectState(t, "RF-0001", "refused")
	for name, text := range map[string]string{"reason": d.Reason, "configuration error": d.ConfigError} {
		if text == "" || len(text) > 4096 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%s is %.80q (%d bytes)", name, text, len(text))
		}
	}
}
