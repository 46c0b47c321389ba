// Package est answers enrolment over secure transport (RFC 7030, RFC 8951):
// cacerts, csrattrs, simpleenroll and simplereenroll for the labels
// "management" and "sip", and serves ownership vouchers. A certificate is
// issued only for a key whose TPM residency, and a phone whose state, were
// proved on the same connection. It does not offer server-side keys or CMC.
package est

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/smallstep/pkcs7"

	"ringfence/provisioning/appraise"
	"ringfence/provisioning/fleet"
	"ringfence/provisioning/gatekeeper"
	"ringfence/provisioning/problem"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
)

// MaxRequest bounds a request's body, in bytes: base64 of a CSR with evidence.
const MaxRequest = 768 << 10

// Issuer makes the certificates. ca.CA is wrapped by the wiring.
type Issuer interface {
	Issue(label enroll.Label, id device.ID, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error)
}

// Config is what a Handler needs; every field is required.
type Config struct {
	Gate       *gatekeeper.Gatekeeper
	Trust      *trust.Trust
	Issuer     Issuer
	Management *x509.CertPool      // who issued the management LDevIDs
	CAs        []*x509.Certificate // answered by cacerts, the owner's first
	Log        *slog.Logger
	Now        func() time.Time
}

// Handler serves the EST and voucher paths. Use ConnContext with it.
type Handler struct {
	cfg Config
	mux *http.ServeMux
}

// New checks cfg.
func New(cfg Config) (*Handler, error) {
	if cfg.Gate == nil || cfg.Trust == nil || cfg.Issuer == nil || cfg.Management == nil || len(cfg.CAs) == 0 || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("EST handler with an incomplete configuration")
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux()}
	h.handle("GET "+enroll.PathPrefix+"{label}/"+enroll.OpCACerts, h.cacerts)
	h.handle("GET "+enroll.PathPrefix+enroll.OpCACerts, h.cacerts)
	h.handle("GET "+enroll.PathPrefix+"{label}/"+enroll.OpCSRAttrs, h.csrattrs)
	h.handle("POST "+enroll.PathPrefix+"{label}/"+enroll.OpSimpleEnroll, h.simpleenroll)
	h.handle("POST "+enroll.PathPrefix+"{label}/"+enroll.OpSimpleReenroll, h.simplereenroll)
	h.handle("GET "+enroll.VoucherPath+"{id}", h.voucher)
	h.handle("/", func(http.ResponseWriter, *http.Request) error { return problem.NotFound("no such path") })
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func (h *Handler) handle(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, MaxRequest)
		if err := f(w, r); err != nil {
			h.refuse(w, r, err)
		}
	})
}

// refuse answers with a problem and leaves an audit event.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	h.cfg.Log.Warn("request refused", "peer", r.RemoteAddr, "path", r.URL.Path, "error", err)
	if refused := new(gatekeeper.RefusedError); errors.As(err, &refused) {
		p := problem.New(http.StatusForbidden, "evidence-refused", "The phone's evidence is refused", refused.Error())
		p.Causes = refused.Causes // recorded by the gatekeeper
		problem.Write(w, p)
		return
	}
	if errors.Is(err, fleet.ErrUnknown) || errors.Is(err, fleet.ErrRetired) {
		err = problem.New(http.StatusForbidden, "not-listed", "The device is not admitted", err.Error())
	}
	if note := h.cfg.Gate.NoteStranger(r.Context(), r.RemoteAddr, "request.refused", r.URL.Path, err.Error()); note != nil {
		h.cfg.Log.Error("audit", "error", note)
	}
	problem.Write(w, err)
}

// session is the state of one TLS connection.
type session struct {
	mu    sync.Mutex
	nonce []byte // nil: none given, or used
}

type sessionKey struct{}

// ConnContext gives each connection its own nonce; for http.Server.ConnContext.
func ConnContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, sessionKey{}, new(session))
}

func (s *session) issue() ([]byte, error) {
	nonce := make([]byte, enroll.NonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nonce = nonce
	return nonce, nil
}

// take returns the nonce once.
func (s *session) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	nonce := s.nonce
	s.nonce = nil
	return nonce
}

func sessionOf(r *http.Request) (*session, error) {
	s, ok := r.Context().Value(sessionKey{}).(*session)
	if !ok || r.TLS == nil || r.TLS.Version != tls.VersionTLS13 {
		return nil, problem.Forbidden("enrolment needs a TLS 1.3 connection")
	}
	return s, nil
}

// cacerts: RFC 7030 section 4.1.
func (h *Handler) cacerts(w http.ResponseWriter, _ *http.Request) error {
	var all []byte
	for _, cert := range h.cfg.CAs {
		all = append(all, cert.Raw...)
	}
	return writeCertificates(w, all, "")
}

// csrattrs: RFC 7030 section 4.5, with a nonce for this connection.
func (h *Handler) csrattrs(w http.ResponseWriter, r *http.Request) error {
	s, err := sessionOf(r)
	if err != nil {
		return err
	}
	// A nonce proves nothing by itself: the chain is verified with its use.
	if _, _, err := h.claimant(r, label(r)); err != nil {
		return err
	}
	nonce, err := s.issue()
	if err != nil {
		return err
	}
	der, err := enroll.MarshalCSRAttrs(nonce)
	if err != nil {
		return err
	}
	return write(w, "application/csrattrs", der)
}

func label(r *http.Request) enroll.Label { return enroll.Label(r.PathValue("label")) }

// peer authenticates the client of a label: the IDevID or a management LDevID
// for "management", a management LDevID for "sip".
func (h *Handler) peer(r *http.Request, label enroll.Label) (d *fleet.Device, ldevid bool, err error) {
	d, ldevid, err = h.claimant(r, label)
	if err != nil || ldevid {
		return d, ldevid, err
	}
	if err := h.cfg.Trust.VerifyIDevID(r.Context(), d.Manufacturer, r.TLS.PeerCertificates); err != nil {
		return nil, false, problem.Forbidden(err.Error())
	}
	return d, false, nil
}

// claimant is peer short of verifying the chain of an IDevID: the certificate
// is the very one of the shipping manifest, and the client holds its key.
func (h *Handler) claimant(r *http.Request, label enroll.Label) (d *fleet.Device, ldevid bool, err error) {
	if label != enroll.Management && label != enroll.SIP {
		return nil, false, problem.NotFound(fmt.Sprintf("label %q: want %s or %s", label, enroll.Management, enroll.SIP))
	}
	if len(r.TLS.PeerCertificates) == 0 {
		return nil, false, problem.Forbidden("no client certificate")
	}
	leaf := r.TLS.PeerCertificates[0]
	_, err = leaf.Verify(x509.VerifyOptions{Roots: h.cfg.Management, CurrentTime: h.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err == nil {
		d, err = h.cfg.Gate.Fleet().ByCertificate(r.Context(), leaf)
		return d, true, err
	}
	if label == enroll.SIP {
		return nil, false, problem.Forbidden("the sip label wants a management certificate: " + err.Error())
	}
	d, fault := h.cfg.Gate.Fleet().Identify(r.Context(), leaf)
	if fault != nil {
		return nil, false, fmt.Errorf("client certificate %q (as a management certificate: %v): %w", leaf.Subject.CommonName, err, fault)
	}
	return d, false, nil
}

// simpleenroll: RFC 7030 section 4.2.1.
func (h *Handler) simpleenroll(w http.ResponseWriter, r *http.Request) error {
	return h.enroll(w, r, false)
}

// simplereenroll: RFC 7030 section 4.2.2; only with a certificate that we
// issued.
func (h *Handler) simplereenroll(w http.ResponseWriter, r *http.Request) error {
	return h.enroll(w, r, true)
}

func (h *Handler) enroll(w http.ResponseWriter, r *http.Request, again bool) error {
	s, err := sessionOf(r)
	if err != nil {
		return err
	}
	d, ldevid, err := h.peer(r, label(r))
	if err != nil {
		return err
	}
	if again && !ldevid {
		return problem.Forbidden("simplereenroll wants a management certificate, this is an IDevID")
	}
	nonce := s.take()
	if nonce == nil {
		return problem.Forbidden("no fresh nonce on this connection: ask csrattrs first")
	}
	csr, ev, err := readRequest(r)
	if err != nil {
		return err
	}
	if csr.Subject.CommonName != string(d.ID) {
		return problem.Bad(fmt.Sprintf("request is for %q, the client is %s", csr.Subject.CommonName, d.ID))
	}
	return h.issue(w, r, d, csr, ev, nonce)
}

func (h *Handler) issue(w http.ResponseWriter, r *http.Request, d *fleet.Device, csr *x509.CertificateRequest, ev *evidence.Evidence, nonce []byte) error {
	exporter, err := r.TLS.ExportKeyingMaterial(enroll.ExporterLabel, nil, enroll.ExporterSize)
	if err != nil {
		return fmt.Errorf("TLS exporter: %w", err)
	}
	use := label(r)
	required := []string{evidence.UseSIP}
	if use == enroll.Management {
		required = []string{evidence.UseManagement, evidence.UseSeal}
	}
	verdict, err := h.cfg.Gate.Admit(r.Context(), d, ev, appraise.Challenge{Nonce: nonce, SPKI: csr.RawSubjectPublicKeyInfo, Exporter: exporter, Keys: required}, "enroll")
	if err != nil {
		return err
	}
	if !appraise.SameKey(verdict.Keys[required[0]], csr.PublicKey) {
		return h.cfg.Gate.Refuse(r.Context(), d.ID, "enroll", []string{"the key to be certified is not the one that the TPM certified"})
	}
	cert, err := h.cfg.Issuer.Issue(use, d.ID, csr.PublicKey, h.cfg.Now())
	if err != nil {
		return err
	}
	if use == enroll.Management {
		seal, err := verdict.Keys[evidence.UseSeal].Bytes()
		if err != nil {
			return err
		}
		if err := h.cfg.Gate.Fleet().Enroll(r.Context(), d.ID, verdict.Release, cert.Raw, seal, h.cfg.Now()); err != nil {
			return err
		}
	}
	if err := h.cfg.Gate.Note(r.Context(), "device:"+string(d.ID), "enroll.issued", string(d.ID),
		fmt.Sprintf("%s certificate %x, release %s", use, cert.SerialNumber, verdict.Release)); err != nil {
		return err
	}
	return writeCertificates(w, cert.Raw, "; smime-type=certs-only")
}

// readRequest decodes a base64 PKCS#10 request (RFC 8951 section 3.1: no
// transfer encoding header is needed; line breaks may be there) and checks
// that its sender holds the key.
func readRequest(r *http.Request) (*x509.CertificateRequest, *evidence.Evidence, error) {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/pkcs10" {
		return nil, nil, problem.New(http.StatusUnsupportedMediaType, "media-type", "Wrong content type", "want application/pkcs10")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, err
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(body)), ""))
	if err != nil {
		return nil, nil, problem.Bad("body is not base64: " + err.Error())
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, nil, problem.Bad("body is not a PKCS#10 request: " + err.Error())
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, nil, problem.Bad("proof of possession: " + err.Error())
	}
	var ev *evidence.Evidence
	for _, ext := range csr.Extensions {
		if !ext.Id.Equal(enroll.OIDEvidence) {
			continue
		}
		if ev != nil {
			return nil, nil, problem.Bad("request carries evidence twice")
		}
		if ev, err = evidence.Decode(ext.Value); err != nil {
			return nil, nil, problem.Bad(err.Error())
		}
	}
	if ev == nil {
		return nil, nil, problem.Bad("request carries no evidence (extension " + enroll.OIDEvidence.String() + ")")
	}
	return csr, ev, nil
}

// voucher serves RFC 8366 vouchers to phones that do not yet trust us: a
// voucher is no secret, and only the right TPM can use what it leads to.
func (h *Handler) voucher(w http.ResponseWriter, r *http.Request) error {
	id, err := device.ParseID(r.PathValue("id"))
	if err != nil {
		return problem.Bad(err.Error())
	}
	d, err := h.cfg.Gate.Fleet().Device(r.Context(), id)
	if errors.Is(err, fleet.ErrUnknown) || err == nil && (len(d.Voucher) == 0 || d.State == fleet.Retired) {
		return problem.NotFound("no voucher for " + string(id))
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/voucher-cms+json") // RFC 8366 section 8.3
	_, _ = w.Write(d.Voucher)                                      // the peer has gone: nothing more to say
	return nil
}

func writeCertificates(w http.ResponseWriter, ders []byte, parameter string) error {
	bundle, err := pkcs7.DegenerateCertificate(ders)
	if err != nil {
		return fmt.Errorf("encode certificates: %w", err)
	}
	return write(w, "application/pkcs7-mime"+parameter, bundle)
}

// write answers with base64 in lines of 64 characters, which clients older
// than RFC 8951 need.
func write(w http.ResponseWriter, kind string, der []byte) error {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Transfer-Encoding", "base64")
	text := base64.StdEncoding.EncodeToString(der)
	for len(text) > 0 {
		n := min(64, len(text))
		_, _ = io.WriteString(w, text[:n]+"\n") // the peer has gone: nothing more to say
		text = text[n:]
	}
	return nil
}
