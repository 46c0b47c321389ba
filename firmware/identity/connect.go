package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"ringfence/provisioning/wire/enroll"
)

// Dialer opens TCP connections; net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// handshakeTimeout bounds TCP connect and TLS handshake together: a hardware
// TPM may take half a second per signature.
const handshakeTimeout = 20 * time.Second

// Server is where a provisioning service is reached and whom to believe.
type Server struct {
	URL    *url.URL
	Roots  *x509.CertPool   // trust anchors for its certificate; nil only for provisional connections
	Dialer Dialer           // nil: net.Dialer
	Now    func() time.Time // nil: time.Now; judges certificate validity
}

// ParseServerURL checks a provisioning URL, which comes from an untrusted hint.
func ParseServerURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("server URL: %w", err)
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(text) > 512 {
		return nil, fmt.Errorf("server URL %q: want https://host[:port]", text)
	}
	return u, nil
}

// Dial opens a TLS 1.3 connection with mutual authentication by c. The caller
// closes it.
func (s *Server) Dial(ctx context.Context, c *Credential, alpn string) (*tls.Conn, error) {
	if s.URL == nil || s.Roots == nil || c == nil {
		return nil, errors.New("dial: no URL, no trust anchors or no certificate")
	}
	return s.dial(ctx, s.config(c, alpn))
}

// dialProvisional connects without judging the server yet (RFC 8995 section
// 5.1): the caller must match the peer against the voucher before any trust.
func (s *Server) dialProvisional(ctx context.Context, c *Credential) (*tls.Conn, error) {
	config := s.config(c, "http/1.1")
	config.InsecureSkipVerify = true
	return s.dial(ctx, config)
}

func (s *Server) config(c *Credential, alpn string) *tls.Config {
	own := tls.Certificate{Certificate: c.Chain, PrivateKey: c.Signer, Leaf: c.Leaf,
		SupportedSignatureAlgorithms: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    s.Roots,
		ServerName: s.URL.Hostname(),
		NextProtos: []string{alpn},
		Time:       s.now,
		// Go sends no certificate at all when the server's CA hint does not match;
		// this sends ours always, so that a refusal is the server's word.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil },
	}
}

func (s *Server) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

func (s *Server) dial(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	address := s.URL.Host
	if s.URL.Port() == "" {
		address = net.JoinHostPort(s.URL.Hostname(), "443")
	}
	var dialer Dialer = new(net.Dialer)
	if s.Dialer != nil {
		dialer = s.Dialer
	}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", address, err), raw.Close())
	}
	state := conn.ConnectionState()
	if got, want := state.NegotiatedProtocol, config.NextProtos[0]; got != want && (got != "" || want != "http/1.1") {
		return nil, errors.Join(fmt.Errorf("TLS with %s: protocol %q, want %q", address, got, want), conn.Close())
	}
	return conn, nil
}

// Exporter returns the value that binds evidence to conn (RFC 8446, 7.5).
func Exporter(conn *tls.Conn) ([]byte, error) {
	state := conn.ConnectionState()
	value, err := state.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	if err != nil {
		return nil, fmt.Errorf("TLS exporter: %w", err)
	}
	return value, nil
}

// FetchVoucher gets this phone's voucher over a provisional connection, checks
// it, and checks that the very server that gave it belongs to the owner it
// names. Nothing else passes over that connection. It returns the CMS and the
// owner's CA.
func (s *Server) FetchVoucher(ctx context.Context, f *Factory, keys *Keys) ([]byte, *x509.Certificate, error) {
	own, err := f.Credential(keys)
	if err != nil {
		return nil, nil, err
	}
	conn, err := s.dialProvisional(ctx, own)
	if err != nil {
		return nil, nil, err
	}
	session := &Session{conn: conn, host: s.URL.Host}
	defer session.Close()
	cms, err := session.get(ctx, enroll.VoucherPath+string(f.Device), voucherType)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch voucher: %w", err)
	}
	owner, err := VerifyVoucher(cms, f, time.Time{})
	if err != nil {
		return nil, nil, err
	}
	if err := s.matchOwner(conn.ConnectionState().PeerCertificates, owner); err != nil {
		return nil, nil, fmt.Errorf("the server that gave the voucher is not the owner's: %w", err)
	}
	return cms, owner, nil
}

func (s *Server) matchOwner(peer []*x509.Certificate, owner *x509.Certificate) error {
	if len(peer) == 0 {
		return errors.New("no server certificate")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(owner)
	for _, cert := range peer[1:] {
		between.AddCert(cert)
	}
	_, err := peer[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
		DNSName: s.URL.Hostname(), CurrentTime: s.now()})
	return err
}
