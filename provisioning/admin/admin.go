// Package admin is the operators' API: JSON over mutual TLS, only for client
// certificates of the owner's admin CA. Every change is audited under the
// operator's name before it is answered. It has no roles yet.
//
// Specifications: RFC 9110, RFC 9457.
package admin

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"context"

	"ringfence/provisioning/audit"
	"ringfence/provisioning/fleet"
	"ringfence/provisioning/lockcfg"
	"ringfence/provisioning/problem"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/factory"
	"ringfence/provisioning/wire/release"
)

// History is what operators may read of the past.
type History interface {
	audit.Log
	Events(ctx context.Context, after uint64, limit int) ([]*audit.Event, error)
	Head(ctx context.Context) (uint64, error)
	VerifyAudit(ctx context.Context) (audit.Event, error)
	Reports(ctx context.Context, id device.ID, kind string, limit int) ([]any, error)
}

// Streams is what is connected now.
type Streams interface {
	Connected() []device.ID
	ConfigChanged(id device.ID) // "" for all
	LineChanged(ctx context.Context, id device.ID) error
	Refused(ctx context.Context, id device.ID, reason string)
}

// Config is what a Handler needs; every field is required unless it says so.
type Config struct {
	Fleet   *fleet.Fleet
	Trust   *trust.Trust
	Maker   *lockcfg.Maker
	History History
	Streams Streams
	// Rollouts may be nil: then the service has none to operate.
	Rollouts Rollouts
	Clients  *x509.CertPool // who issues operators' certificates
	Log      *slog.Logger
}

// Handler serves the API below /v1/. The listener asks for a client
// certificate; the Handler verifies it, so that a refusal says why and is
// audited.
type Handler struct {
	cfg       Config
	mux       *http.ServeMux
	strangers audit.Limiter
}

// New checks cfg.
func New(cfg Config) (*Handler, error) {
	if cfg.Fleet == nil || cfg.Trust == nil || cfg.Maker == nil || cfg.History == nil || cfg.Streams == nil || cfg.Clients == nil || cfg.Log == nil {
		return nil, errors.New("admin handler with an incomplete configuration")
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux()}
	for pattern, f := range map[string]func(*request) (any, error){
		"GET /v1/status":               h.status,
		"GET /v1/manufacturers":        h.manufacturers,
		"POST /v1/manufacturers":       h.addManufacturer,
		"GET /v1/references":           h.references,
		"POST /v1/references":          h.importReference,
		"POST /v1/manifests":           h.importManifest,
		"GET /v1/devices":              h.devices,
		"GET /v1/devices/{id}":         h.device,
		"POST /v1/devices/{id}/retire": h.retire,
		"GET /v1/config/{scope}":       h.config,
		"PATCH /v1/config/{scope}":     h.setConfig,
		"GET /v1/audit":                h.audit,
		"GET /v1/audit/verify":         h.verifyAudit,
		"/":                            func(*request) (any, error) { return nil, problem.NotFound("no such path") },
	} {
		h.handle(pattern, f)
	}
	if cfg.Rollouts != nil {
		h.handleRollouts()
	}
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// request is one authenticated call.
type request struct {
	*http.Request
	actor string
	body  []byte
}

const maxBody = 2 * factory.MaxManifest

func (h *Handler) handle(pattern string, f func(*request) (any, error)) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		answer, err := h.answer(w, r, f)
		if err != nil {
			problem.Write(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // the peer has gone: nothing more to say
	})
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, f func(*request) (any, error)) (any, error) {
	operator, err := h.operator(r.TLS)
	if err != nil { // before anything of the request is read
		h.stranger(r, err)
		return nil, problem.Forbidden(err.Error())
	}
	req := &request{r, "admin:" + operator, nil}
	limit := int64(1 << 20)
	if r.URL.Path == "/v1/manifests" {
		limit = maxBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	req.body = body
	var answer any
	if err == nil {
		answer, err = f(req)
	}
	if err != nil {
		h.cfg.Log.Warn("admin request refused", "actor", req.actor, "path", r.URL.Path, "error", err)
		if note := h.note(req, "admin.refused", r.URL.Path, err.Error()); note != nil {
			h.cfg.Log.Error("audit", "error", note)
		}
	}
	return answer, err
}

// operator names the client, whose key the handshake has proved.
func (h *Handler) operator(state *tls.ConnectionState) (string, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return "", errors.New("no client certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	cert := state.PeerCertificates[0]
	if _, err := cert.Verify(x509.VerifyOptions{Roots: h.cfg.Clients, Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return "", fmt.Errorf("client certificate of an operator: %w", err)
	}
	return cert.Subject.CommonName, nil
}

func (h *Handler) stranger(r *http.Request, err error) {
	h.cfg.Log.Warn("admin client refused", "peer", r.RemoteAddr, "error", err)
	ok, last := h.strangers.Admit(r.RemoteAddr, time.Now())
	if !ok {
		return
	}
	detail := err.Error()
	if last {
		detail += audit.LastNote
	}
	if err := h.cfg.History.Append(r.Context(), audit.Event{Time: time.Now(), Actor: r.RemoteAddr, Name: "admin.refused", Subject: r.URL.Path, Detail: detail}); err != nil {
		h.cfg.Log.Error("audit", "error", err)
	}
}

func (h *Handler) note(r *request, name, subject, detail string) error {
	return h.cfg.History.Append(r.Context(), audit.Event{Time: time.Now(), Actor: r.actor, Name: name, Subject: subject, Detail: detail})
}

// conflict is an error of a rule, told to the operator as it is.
func conflict(err error) error {
	if p := new(problem.Problem); errors.As(err, &p) {
		return err
	}
	if errors.Is(err, fleet.ErrUnknown) {
		return problem.NotFound(err.Error())
	}
	return problem.New(http.StatusUnprocessableEntity, "refused", "The request is refused", err.Error())
}

// Status is the answer to GET /v1/status.
type Status struct {
	Devices   map[fleet.State]int `json:"devices"`
	Connected []device.ID         `json:"connected"`
	AuditHead uint64              `json:"audit_head"`
}

func (h *Handler) status(r *request) (any, error) {
	devices, err := h.cfg.Fleet.Devices(r.Context())
	if err != nil {
		return nil, err
	}
	s := Status{Devices: make(map[fleet.State]int), Connected: h.cfg.Streams.Connected()}
	for _, d := range devices {
		s.Devices[d.State]++
	}
	s.AuditHead, err = h.cfg.History.Head(r.Context())
	return s, err
}

func (h *Handler) manufacturers(r *request) (any, error) {
	return h.cfg.Trust.Manufacturers(r.Context())
}

func (h *Handler) addManufacturer(r *request) (any, error) {
	m := new(trust.Manufacturer)
	if err := wire.DecodeStrict(r.body, 1<<20, m); err != nil {
		return nil, problem.Bad(err.Error())
	}
	if err := h.cfg.Trust.Add(r.Context(), m); err != nil {
		return nil, conflict(err)
	}
	return m, h.note(r, "manufacturer.added", m.Name, fmt.Sprintf("%d anchors", len(m.Anchors)))
}

func (h *Handler) references(r *request) (any, error) { return h.cfg.Trust.Stored(r.Context()) }

// Imported is the answer to an import.
type Imported struct {
	Release string       `json:"release,omitempty"`
	Model   device.Model `json:"model,omitempty"`
	Units   int          `json:"units,omitempty"`
	Signed  bool         `json:"signed"`
}

func (h *Handler) importReference(r *request) (any, error) {
	if len(r.body) > 2*release.MaxReference {
		return nil, problem.Bad("reference values are too large")
	}
	ref, err := h.cfg.Trust.ImportReference(r.Context(), r.body)
	if err != nil {
		return nil, conflict(err)
	}
	return Imported{Release: ref.Release, Model: ref.Model, Signed: true}, h.note(r, "reference.imported", string(ref.Model)+" "+ref.Release, "image "+ref.Image.String())
}

func (h *Handler) importManifest(r *request) (any, error) {
	m, signed, err := h.cfg.Trust.VerifyManifest(r.Context(), r.body)
	if err != nil {
		return nil, conflict(err)
	}
	if err := h.cfg.Fleet.Import(r.Context(), m); err != nil {
		return nil, conflict(err)
	}
	detail := "vouched for by the operator"
	if signed {
		detail = "signed by the manufacturer"
	}
	for _, u := range m.Units {
		if err := h.note(r, "device.listed", string(u.Device), detail); err != nil {
			return nil, err
		}
	}
	return Imported{Units: len(m.Units), Signed: signed}, nil
}

// Device is one device as operators see it.
type Device struct {
	*fleet.Device
	Connected bool  `json:"connected"`
	Status    any   `json:"status,omitempty"`
	Calls     []any `json:"calls,omitempty"`
}

func (h *Handler) devices(r *request) (any, error) {
	records, err := h.cfg.Fleet.Devices(r.Context())
	if err != nil {
		return nil, err
	}
	connected := make(map[device.ID]bool)
	for _, id := range h.cfg.Streams.Connected() {
		connected[id] = true
	}
	all := make([]Device, len(records))
	for i, d := range records {
		all[i] = Device{Device: d, Connected: connected[d.ID]}
		d.Voucher = nil
	}
	return all, nil
}

func (h *Handler) device(r *request) (any, error) {
	d, err := h.find(r, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	answer := Device{Device: d}
	for _, id := range h.cfg.Streams.Connected() {
		answer.Connected = answer.Connected || id == d.ID
	}
	status, err := h.cfg.History.Reports(r.Context(), d.ID, "status", 1)
	if err != nil {
		return nil, err
	}
	if len(status) == 1 {
		answer.Status = status[0]
	}
	answer.Calls, err = h.cfg.History.Reports(r.Context(), d.ID, "call", 20)
	return answer, err
}

func (h *Handler) find(r *request, text string) (*fleet.Device, error) {
	id, err := device.ParseID(text)
	if err != nil {
		return nil, problem.Bad(err.Error())
	}
	d, err := h.cfg.Fleet.Device(r.Context(), id)
	if err != nil {
		return nil, conflict(fmt.Errorf("%s: %w", id, err))
	}
	return d, nil
}

func (h *Handler) retire(r *request) (any, error) {
	d, err := h.find(r, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if err := h.cfg.Fleet.Retire(r.Context(), d.ID); err != nil {
		return nil, conflict(err)
	}
	h.cfg.Streams.Refused(r.Context(), d.ID, "retired")
	// Its line may be given to another phone.
	if err := h.cfg.Maker.Set(r.Context(), string(d.ID), lockcfg.Settings{"line.user": ""}); err != nil {
		return nil, err
	}
	return struct{}{}, h.note(r, "device.retired", string(d.ID), "")
}

func (h *Handler) scope(r *request) (string, error) {
	scope := r.PathValue("scope")
	if scope == lockcfg.Site {
		return scope, nil
	}
	d, err := h.find(r, scope)
	if err != nil {
		return "", err
	}
	return string(d.ID), nil
}

// Settings is the answer to GET /v1/config/{scope}.
type Settings struct {
	Own       lockcfg.Settings `json:"own"`       // of this scope
	Effective lockcfg.Settings `json:"effective"` // with what lies below
}

func (h *Handler) config(r *request) (any, error) {
	scope, err := h.scope(r)
	if err != nil {
		return nil, err
	}
	own, err := h.cfg.Maker.Settings(r.Context(), scope)
	if err != nil {
		return nil, err
	}
	effective, err := h.cfg.Maker.Effective(r.Context(), device.ID(scope))
	return Settings{own, effective}, err
}

func (h *Handler) setConfig(r *request) (any, error) {
	scope, err := h.scope(r)
	if err != nil {
		return nil, err
	}
	changes := lockcfg.Settings{}
	if err := wire.DecodeStrict(r.body, 64<<10, &changes); err != nil {
		return nil, problem.Bad(err.Error())
	}
	if err := h.cfg.Maker.Set(r.Context(), scope, changes); err != nil {
		return nil, conflict(err)
	}
	text, err := json.Marshal(changes)
	if err != nil {
		return nil, err
	}
	if err := h.note(r, "config.set", scope, string(text)); err != nil {
		return nil, err
	}
	if scope == lockcfg.Site {
		h.cfg.Streams.ConfigChanged("")
	} else {
		if _, line := changes["line.user"]; line {
			if err := h.cfg.Streams.LineChanged(r.Context(), device.ID(scope)); err != nil {
				h.cfg.Log.Error("change line at the call server", "device", scope, "error", err) // the registrar repeats it
			}
		}
		h.cfg.Streams.ConfigChanged(device.ID(scope))
	}
	return h.config(r)
}

// audit answers the newest ?limit= events, or those after ?after=.
func (h *Handler) audit(r *request) (any, error) {
	limit, err := number(r, "limit", 50)
	if err != nil {
		return nil, err
	}
	limit = min(limit, 1000)
	head, err := h.cfg.History.Head(r.Context())
	if err != nil {
		return nil, err
	}
	after, err := number(r, "after", head-min(head, limit))
	if err != nil {
		return nil, err
	}
	return h.cfg.History.Events(r.Context(), after, int(limit))
}

func number(r *request, name string, otherwise uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, problem.Bad(fmt.Sprintf("%s=%q: want a number", name, text))
	}
	return n, nil
}

// Verified is the answer to GET /v1/audit/verify.
type Verified struct {
	OK    bool        `json:"ok"`
	Error string      `json:"error,omitempty"`
	Head  audit.Event `json:"head"` // last good entry
}

func (h *Handler) verifyAudit(r *request) (any, error) {
	head, err := h.cfg.History.VerifyAudit(r.Context())
	if err != nil {
		return Verified{false, err.Error(), head}, nil
	}
	return Verified{true, "", head}, nil
}
