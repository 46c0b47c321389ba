// Package push holds the management streams: who is connected, what they must
// prove, and what they must hear. A phone that is silent, or proves something
// else than its release, loses its stream and its place on the call server. It
// does not fan out between nodes yet.
//
// Protocol: package wire.
package push

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"ringfence/provisioning/fleet"
	"ringfence/provisioning/gatekeeper"
	"ringfence/provisioning/lockcfg"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
)

// Registrar is the call server's table: who may register as what. Both
// methods are idempotent and safe for concurrent use.
type Registrar interface {
	Allow(ctx context.Context, id device.ID, aorUser string) error
	Revoke(ctx context.Context, id device.ID) error
}

// Reports keeps what phones report.
type Reports interface {
	PutReport(ctx context.Context, id device.ID, kind string, at time.Time, body any) error
}

// Updates decides which phone hears of which release.
type Updates interface {
	// Proved is told of a stream's first proof, of this release; it returns
	// the update to send, nil for none.
	Proved(id device.ID, release string) *wire.Update
	// Progress is told what a phone that proved release says of its update.
	Progress(ctx context.Context, id device.ID, release string, p *wire.Progress, now time.Time) error
}

// Config is what a Server needs; every field is required unless it says so.
type Config struct {
	Gate         *gatekeeper.Gatekeeper
	Maker        *lockcfg.Maker
	Registrar    Registrar
	Reports      Reports
	Updates      Updates        // nil: no phone is told of a release
	Management   *x509.CertPool // who issued the management LDevIDs
	Log          *slog.Logger
	Reattest     time.Duration // between proofs; 0 means 30 s
	ProofTimeout time.Duration // for one proof; 0 means 25 s
	Lapse        time.Duration // after the last proof a lost phone is revoked; 0 means 55 s
}

// Server is safe for concurrent use.
type Server struct {
	cfg      Config
	mu       sync.Mutex
	sessions map[device.ID]*stream
	allowed  map[device.ID]time.Time // last good proof
}

// New checks cfg.
func New(cfg Config) (*Server, error) {
	if cfg.Gate == nil || cfg.Maker == nil || cfg.Registrar == nil || cfg.Reports == nil || cfg.Management == nil || cfg.Log == nil {
		return nil, errors.New("push server with an incomplete configuration")
	}
	for _, d := range []struct {
		p   *time.Duration
		def time.Duration
	}{{&cfg.Reattest, 30 * time.Second}, {&cfg.ProofTimeout, 25 * time.Second}, {&cfg.Lapse, 55 * time.Second}} {
		if *d.p == 0 {
			*d.p = d.def
		}
	}
	return &Server{cfg: cfg, sessions: make(map[device.ID]*stream), allowed: make(map[device.ID]time.Time)}, nil
}

// Serve runs one stream until it ends; the TLS handshake is done. It closes
// conn.
func (s *Server) Serve(ctx context.Context, conn *tls.Conn) {
	defer conn.Close()
	st, err := s.accept(ctx, conn)
	if err != nil {
		s.cfg.Log.Warn("stream refused", "peer", conn.RemoteAddr(), "error", err)
		if note := s.cfg.Gate.NoteStranger(ctx, conn.RemoteAddr().String(), "stream.refused", "", err.Error()); note != nil {
			s.cfg.Log.Error("audit", "error", note)
		}
		turnAway(conn, err)
		return
	}
	ctx, st.cancel = context.WithCancel(ctx)
	defer st.cancel()
	s.add(st)
	defer s.remove(st)
	err = st.run(ctx)
	s.cfg.Log.Info("stream ended", "device", st.device.ID, "reason", err)
	if !fault(err) {
		return
	}
	if note := s.cfg.Gate.Note(context.WithoutCancel(ctx), "device:"+string(st.device.ID), "stream.fault", string(st.device.ID), err.Error()); note != nil {
		s.cfg.Log.Error("audit", "error", note)
	}
}

// errRefused ends a stream whose refusal the gatekeeper has recorded.
var errRefused = errors.New("refused")

// fault reports that a stream ended by what the phone sent: not by its silence,
// its going, the end of the service, or a refusal that is recorded already.
func fault(err error) bool {
	var lost *net.OpError
	for _, known := range []error{nil, errRefused, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled} {
		if errors.Is(err, known) {
			return false
		}
	}
	return !errors.As(err, new(*gatekeeper.RefusedError)) && !errors.As(err, &lost)
}

// add makes st the only stream of its device.
func (s *Server) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.sessions[st.device.ID]; old != nil {
		old.cancel()
	}
	s.sessions[st.device.ID] = st
}

func (s *Server) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[st.device.ID] == st {
		delete(s.sessions, st.device.ID)
	}
}

// Connected lists the devices with a stream, sorted.
func (s *Server) Connected() []device.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]device.ID, 0, len(s.sessions))
	for id := range s.sessions {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Ready lists the devices with a stream on which they proved themselves.
func (s *Server) Ready() []device.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]device.ID, 0, len(s.sessions))
	for id, st := range s.sessions {
		if st.ready.Load() {
			ids = append(ids, id)
		}
	}
	return ids
}

// Tell has a phone sent u now, in place of one that waits; a phone without a
// stream is left to Updates.Proved.
func (s *Server) Tell(id device.ID, u *wire.Update) {
	s.mu.Lock()
	st := s.sessions[id]
	s.mu.Unlock()
	if st == nil {
		return
	}
	select {
	case <-st.update: // the newest counts
	default: // none waits
	}
	select {
	case st.update <- u:
	default: // another was put there just now
	}
}

// ConfigChanged has the phone sent its new configuration now; "" means all
// phones.
func (s *Server) ConfigChanged(id device.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, st := range s.sessions {
		if id == "" || id == other {
			st.poke()
		}
	}
}

// Refused takes a device from the call server and ends its stream; for
// gatekeeper.Config.Refused.
func (s *Server) Refused(ctx context.Context, id device.ID, reason string) {
	s.revoke(ctx, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.sessions[id]; st != nil {
		st.refuse(reason)
	}
}

func (s *Server) revoke(ctx context.Context, id device.ID) {
	s.mu.Lock()
	delete(s.allowed, id)
	s.mu.Unlock()
	if err := s.cfg.Registrar.Revoke(ctx, id); err != nil {
		s.cfg.Log.Error("revoke registration", "device", id, "error", err)
		s.mu.Lock()
		s.allowed[id] = time.Time{} // Run tries again
		s.mu.Unlock()
	}
}

// LineChanged makes the call server's row of a phone that is on it equal to
// the phone's settings, connected or not: the former line is gone when it
// returns nil.
func (s *Server) LineChanged(ctx context.Context, id device.ID) error {
	s.mu.Lock()
	proof, on := s.allowed[id]
	s.mu.Unlock()
	if !on {
		return nil
	}
	return s.allow(ctx, id, proof)
}

// allow puts a proved phone on the call server; one without a line is taken
// off.
func (s *Server) allow(ctx context.Context, id device.ID, proof time.Time) error {
	settings, err := s.cfg.Maker.Effective(ctx, id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.allowed[id] = proof
	s.mu.Unlock()
	if user := settings["line.user"]; user == "" {
		err = s.cfg.Registrar.Revoke(ctx, id)
	} else {
		err = s.cfg.Registrar.Allow(ctx, id, user)
	}
	if err != nil {
		return err
	}
	// It may have been refused or retired since its proof: the refusal wins,
	// whichever of the two told the call server last.
	d, err := s.cfg.Gate.Fleet().Device(ctx, id)
	if err != nil {
		return err
	}
	if d.State == fleet.Refused || d.State == fleet.Retired {
		s.revoke(ctx, id)
	}
	return nil
}

// Run takes phones whose proof has lapsed from the call server, until ctx
// ends. Phones that were trusted before a restart have until their last proof
// lapses.
func (s *Server) Run(ctx context.Context) error {
	devices, err := s.cfg.Gate.Fleet().Devices(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, d := range devices {
		if d.State == fleet.Trusted {
			s.allowed[d.ID] = d.LastProof
		}
	}
	s.mu.Unlock()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.lapse(ctx, now)
		}
	}
}

func (s *Server) lapse(ctx context.Context, now time.Time) {
	var lost []device.ID
	s.mu.Lock()
	for id, proof := range s.allowed {
		if now.Sub(proof) > s.cfg.Lapse {
			lost = append(lost, id)
		}
	}
	s.mu.Unlock()
	for _, id := range lost {
		s.revoke(ctx, id)
		if err := s.cfg.Gate.Fleet().Lapse(ctx, id); err != nil {
			s.cfg.Log.Error("lapse", "device", id, "error", err)
		}
		if err := s.cfg.Gate.Note(ctx, "service", "proof.lapsed", string(id), "no fresh proof: registration revoked"); err != nil {
			s.cfg.Log.Error("audit", "error", err)
		}
	}
}
