package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/smallstep/pkcs7"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/report"
)

// authority is a CA or one of its certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string, isCA bool, parent *authority, names ...string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour), IsCA: isCA, BasicConstraintsValid: true}
	if parent == nil {
		parent = &authority{template, key}
	}
	if a.cert, err = parent.issue(template, key.Public()); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) issue(template *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, pub, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// server is a small provisioning service: EST and management streams, by the
// wire packages, with knobs to misbehave.
type server struct {
	t                      *testing.T
	listener               net.Listener
	owner, management, sip *authority
	voucher                []byte

	mu        sync.Mutex
	refuse    string        // refuse evidence with this reason
	past      time.Duration // how long ago certificates were issued, of 24 hours
	enrolled  []string      // "op label by issuer"
	hello     wire.Hello
	results   []wire.Result
	reports   []report.Report
	deaf      bool         // closes streams until a phone enrols by its IDevID
	config    []byte       // sent after evidence
	update    *wire.Update // sent after evidence
	early     bool         // or before it
	progress  []wire.Progress
	conns     []net.Conn
	lastNonce []byte
}

func startServer(t *testing.T, owner, certified *authority) *server {
	t.Helper()
	s := &server{t: t, owner: owner, past: time.Hour,
		management: newAuthority(t, "management", true, nil), sip: newAuthority(t, "sip", true, nil)}
	web := newAuthority(t, "prov.ringfence.test", false, certified, "prov.ringfence.test")
	var err error
	s.listener, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		NextProtos:   []string{wire.ALPN, "http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{web.cert.Raw}, PrivateKey: web.key}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.accept() }()
	t.Cleanup(func() { _ = s.listener.Close(); s.drop(); <-done })
	return s
}

func (s *server) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, s.listener.Addr().String())
}

func (s *server) with(do func()) { s.mu.Lock(); defer s.mu.Unlock(); do() }

func (s *server) drop() {
	s.with(func() {
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.conns = nil
	})
}

func (s *server) accept() {
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.with(func() { s.conns = append(s.conns, conn) })
		wait.Go(func() { s.serve(conn.(*tls.Conn)) })
	}
}

func (s *server) serve(conn *tls.Conn) {
	defer conn.Close()
	if conn.Handshake() != nil {
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == wire.ALPN {
		_ = s.stream(conn) // ends with the connection
		return
	}
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		status, kind, body := s.answer(conn, request)
		response := &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {kind}},
			ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
		if response.Write(conn) != nil {
			return
		}
	}
}

func (s *server) answer(conn *tls.Conn, r *http.Request) (int, string, []byte) {
	if strings.HasPrefix(r.URL.Path, enroll.VoucherPath) {
		return 200, "application/voucher-cms+json", s.voucher
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, enroll.PathPrefix), "/")
	switch parts[1] {
	case enroll.OpCACerts:
		bag, _ := pkcs7.DegenerateCertificate(append(bytes.Clone(s.management.cert.Raw), s.sip.cert.Raw...))
		return 200, "application/pkcs7-mime", []byte(base64.StdEncoding.EncodeToString(bag))
	case enroll.OpCSRAttrs:
		nonce := make([]byte, enroll.NonceSize)
		_, _ = rand.Read(nonce) // never fails
		s.with(func() { s.lastNonce = nonce })
		der, _ := enroll.MarshalCSRAttrs(nonce)
		return 200, "application/csrattrs", []byte(base64.StdEncoding.EncodeToString(der))
	}
	body, err := s.enroll(conn, r, parts[1], parts[0])
	if err != nil {
		return 403, "application/problem+json", fmt.Appendf(nil, `{"title":"evidence refused","detail":%q}`, err)
	}
	return 200, "application/pkcs7-mime", body
}

func (s *server) enroll(conn *tls.Conn, r *http.Request, op, label string) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		return nil, errors.New("bad request")
	}
	for _, x := range csr.Extensions {
		if x.Id.Equal(enroll.OIDEvidence) {
			e, err := evidence.Decode(x.Value)
			if err != nil {
				return nil, err
			}
			if err := s.judge(conn, e, csr.RawSubjectPublicKeyInfo); err != nil {
				return nil, err
			}
		}
	}
	ca, uris := s.management, []*url.URL{phoneID.URN()}
	if label == "sip" {
		ca, uris = s.sip, []*url.URL{phoneID.SIPURI("ringfence.test"), phoneID.URN()}
	}
	by := conn.ConnectionState().PeerCertificates[0].Issuer.CommonName
	s.with(func() {
		s.enrolled = append(s.enrolled, op+" "+label+" by "+by)
		s.deaf = s.deaf && by != "manufacturer"
	})
	cert, err := ca.issue(&x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: string(phoneID)},
		URIs: uris, NotBefore: time.Now().Add(-s.past), NotAfter: time.Now().Add(24*time.Hour - s.past), KeyUsage: x509.KeyUsageDigitalSignature}, csr.PublicKey)
	if err != nil {
		return nil, err
	}
	bag, err := pkcs7.DegenerateCertificate(cert.Raw)
	return []byte(base64.StdEncoding.EncodeToString(bag)), err
}

// judge checks that quote and certifications are over this nonce, key and
// connection.
func (s *server) judge(conn *tls.Conn, e *evidence.Evidence, spki []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != "" {
		return errors.New(s.refuse)
	}
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	if err != nil {
		return err
	}
	want := enroll.Binding(s.lastNonce, spki, exporter)
	signed := [][]byte{e.Quote}
	for _, k := range e.Keys {
		signed = append(signed, k.Certify)
	}
	for _, raw := range signed {
		attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](raw)
		if err != nil || !bytes.Equal(attest.ExtraData.Buffer, want) {
			return fmt.Errorf("binding differs (%v)", err)
		}
	}
	return nil
}

func (s *server) stream(conn *tls.Conn) error {
	for {
		m, err := wire.ReadFrame(conn)
		if err != nil {
			return err
		}
		var answers []*wire.Message
		switch {
		case m.Hello != nil:
			s.with(func() {
				if s.deaf {
					err = errors.New("unknown certificate")
					return
				}
				s.hello, s.lastNonce = *m.Hello, bytes.Repeat([]byte{7}, enroll.NonceSize)
				if s.early {
					answers = append(answers, &wire.Message{Update: s.update})
				}
				answers = append(answers, &wire.Message{Challenge: &wire.Challenge{Nonce: s.lastNonce}})
			})
		case m.Evidence != nil:
			if err := s.judge(conn, m.Evidence, conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo); err != nil {
				answers = append(answers, &wire.Message{Bye: &wire.Bye{Reason: err.Error()}})
			} else if s.config != nil {
				answers = append(answers, &wire.Message{Config: &wire.Config{Sealed: s.config}})
			}
			s.with(func() {
				if s.update != nil {
					answers = append(answers, &wire.Message{Update: s.update})
				}
			})
		case m.Progress != nil:
			s.with(func() { s.progress = append(s.progress, *m.Progress) })
		case m.Ping != nil && !m.Ping.Answer:
			answers = append(answers, &wire.Message{Ping: &wire.Ping{Answer: true}})
		case m.Result != nil:
			s.with(func() { s.results = append(s.results, *m.Result) })
		case m.Report != nil:
			s.with(func() { s.reports = append(s.reports, *m.Report) })
		}
		if err != nil {
			return err
		}
		for _, a := range answers {
			frame, err := wire.AppendFrame(nil, a)
			if err != nil {
				return err
			}
			if _, err := conn.Write(frame); err != nil {
				return err
			}
			if a.Bye != nil {
				return nil
			}
		}
	}
}

func issueVoucher(t *testing.T, by *authority, owner *authority) []byte {
	t.Helper()
	content, err := enroll.Voucher{CreatedOn: time.Now(), Assertion: "verified", SerialNumber: phoneID,
		PinnedDomainCert: owner.cert.Raw}.MarshalJSONDocument()
	if err != nil {
		t.Fatal(err)
	}
	signer := newAuthority(t, enroll.VoucherSigner, false, by)
	data, err := pkcs7.NewSignedData(content)
	if err != nil {
		t.Fatal(err)
	}
	data.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := data.AddSigner(signer.cert, signer.key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	cms, err := data.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return cms
}
