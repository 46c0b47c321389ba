package identity

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
)

const (
	maxAnswer      = 64 << 10                       // bytes
	voucherType    = "application/voucher-cms+json" // RFC 8366 section 8.3
	requestTimeout = 30 * time.Second
)

// Problem is a refusal by the server (RFC 9457).
type Problem struct {
	Status int    `json:"status"`
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

// Error implements error.
func (p *Problem) Error() string {
	return fmt.Sprintf("server refused: %d %s: %s", p.Status, p.Title, p.Detail)
}

// Session is one TLS connection that carries EST requests one after the other:
// nonce and evidence must travel on the same connection. Not safe for
// concurrent use.
type Session struct {
	conn   *tls.Conn
	reader *bufio.Reader
	host   string
}

// Open connects for EST with the certificate c. The caller closes the Session.
func (s *Server) Open(ctx context.Context, c *Credential) (*Session, error) {
	conn, err := s.Dial(ctx, c, "http/1.1")
	if err != nil {
		return nil, err
	}
	return &Session{conn: conn, host: s.URL.Host}, nil
}

// Close closes the connection.
func (s *Session) Close() error { return s.conn.Close() }

// Exporter returns the binding value of this connection.
func (s *Session) Exporter() ([]byte, error) { return Exporter(s.conn) }

// CACerts returns the CA certificates of label (RFC 7030 section 4.1).
func (s *Session) CACerts(ctx context.Context, label enroll.Label) ([]*x509.Certificate, error) {
	raw, err := s.get(ctx, path(label, enroll.OpCACerts), "application/pkcs7-mime")
	if err != nil {
		return nil, fmt.Errorf("cacerts %s: %w", label, err)
	}
	return certsOnly(raw)
}

// Nonce returns the nonce of csrattrs (RFC 7030 section 4.5).
func (s *Session) Nonce(ctx context.Context, label enroll.Label) ([]byte, error) {
	raw, err := s.get(ctx, path(label, enroll.OpCSRAttrs), "application/csrattrs")
	if err != nil {
		return nil, fmt.Errorf("csrattrs %s: %w", label, err)
	}
	der, err := decodeBase64(raw)
	if err != nil {
		return nil, fmt.Errorf("csrattrs %s: %w", label, err)
	}
	return enroll.ParseCSRAttrs(der)
}

// Enroll sends a certification request with evidence (simpleenroll, or
// simplereenroll when again) and returns the certificate chain, leaf first.
func (s *Session) Enroll(ctx context.Context, label enroll.Label, again bool, csr []byte) ([][]byte, error) {
	op := enroll.OpSimpleEnroll
	if again {
		op = enroll.OpSimpleReenroll
	}
	body := []byte(base64.StdEncoding.EncodeToString(csr))
	raw, err := s.do(ctx, http.MethodPost, path(label, op), "application/pkcs10", body, "application/pkcs7-mime")
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, label, err)
	}
	certs, err := certsOnly(raw)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, label, err)
	}
	var chain [][]byte
	for _, cert := range certs {
		if cert.IsCA {
			chain = append(chain, cert.Raw)
		} else {
			chain = append([][]byte{cert.Raw}, chain...)
		}
	}
	return chain, nil
}

// Request makes the PKCS #10 request of signer for the phone id, with the
// evidence as the extension that csrattrs asked for.
func Request(signer *Signer, id device.ID, proof *evidence.Evidence) ([]byte, error) {
	raw, err := proof.Encode()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: string(id)},
		URIs:            []*url.URL{id.URN()},
		ExtraExtensions: []pkix.Extension{{Id: enroll.OIDEvidence, Value: raw}},
	}, signer)
	if err != nil {
		return nil, fmt.Errorf("certification request: %w", err)
	}
	return csr, nil
}

func path(label enroll.Label, op string) string {
	return enroll.PathPrefix + string(label) + "/" + op
}

func (s *Session) get(ctx context.Context, path, want string) ([]byte, error) {
	return s.do(ctx, http.MethodGet, path, "", nil, want)
}

// do sends one request on the session's connection and returns the body of a
// 200 answer of the media type want; a voucher, which proves itself, may come
// as any type.
func (s *Session) do(ctx context.Context, method, path, kind string, body []byte, want string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "https://"+s.host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", want)
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	if err := s.conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) }) // ends the read below
	defer stop()
	if err := request.Write(s.conn); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	return s.answer(request, want)
}

func (s *Session) answer(request *http.Request, want string) ([]byte, error) {
	if s.reader == nil {
		s.reader = bufio.NewReader(s.conn)
	}
	response, err := http.ReadResponse(s.reader, request)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("answer of more than %d bytes", maxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		return nil, problem(response, body)
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if want != voucherType && (err != nil || kind != want) {
		return nil, fmt.Errorf("answer of type %q, want %q", response.Header.Get("Content-Type"), want)
	}
	return body, nil
}

func problem(response *http.Response, body []byte) error {
	p := &Problem{}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")) // an unreadable type is no problem document
	if kind != "application/problem+json" || json.Unmarshal(body, p) != nil {
		p = &Problem{Title: http.StatusText(response.StatusCode), Detail: strings.ToValidUTF8(string(body[:min(len(body), 200)]), "?")}
	}
	p.Status = response.StatusCode
	return p
}

// decodeBase64 decodes an EST body (RFC 8951 section 3.1: base64, white space
// allowed).
func decodeBase64(raw []byte) ([]byte, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(raw)), ""))
	if err != nil {
		return nil, fmt.Errorf("base64 body: %w", err)
	}
	return der, nil
}

func certsOnly(raw []byte) ([]*x509.Certificate, error) {
	der, err := decodeBase64(raw)
	if err != nil {
		return nil, err
	}
	bag, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("certs-only answer: %w", err)
	}
	if len(bag.Certificates) == 0 || len(bag.Certificates) > 8 {
		return nil, fmt.Errorf("certs-only answer with %d certificates, want 1 to 8", len(bag.Certificates))
	}
	return bag.Certificates, nil
}
