// Package factory is the station on a blank phone's serial line: it checks the
// phone's endorsement key, has the phone prove that its keys live in that TPM,
// issues the IDevID and writes the shipping manifest. It flashes nothing.
//
// Specifications: IEEE 802.1AR-2018, TCG EK Credential Profile 2.5, TPM 2.0
// Library part 1 section 24 (credential protection), RFC 8366 (voucher).
package factory

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/google/go-tpm/tpm2"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	wire "ringfence/provisioning/wire/factory"
)

// Config is what a Station needs. Fields without a stated zero value are
// required.
type Config struct {
	Line         io.ReadWriteCloser // owned by the Station
	EKRoots      []*x509.Certificate
	Manufacturer *Manufacturer
	Log          *slog.Logger  // of this unit
	Answer       time.Duration // how long one answer may take; zero: 60 s (a TPM makes five keys)
	Tries        int           // how often a request is sent; zero: 3
}

// Station enrols one phone.
type Station struct {
	cfg     Config
	answers chan answer
	done    chan struct{}
}

type answer struct {
	message *wire.Message
	err     error // damaged line
}

// ErrRefused reports that the phone ended the exchange.
var ErrRefused = errors.New("the phone refused")

// New starts listening on the line. The caller closes the Station.
func New(cfg Config) (*Station, error) {
	if cfg.Line == nil || len(cfg.EKRoots) == 0 || cfg.Manufacturer == nil || cfg.Log == nil {
		return nil, errors.New("factory station: line, EK roots, manufacturer and log are all required")
	}
	if cfg.Answer <= 0 {
		cfg.Answer = time.Minute
	}
	if cfg.Tries <= 0 {
		cfg.Tries = 3
	}
	s := &Station{cfg: cfg, answers: make(chan answer, 16), done: make(chan struct{})}
	go s.listen()
	return s, nil
}

// Close closes the line and waits for the listener.
func (s *Station) Close() error {
	err := s.cfg.Line.Close()
	<-s.done
	return err
}

// listen passes answers on; what nobody waits for is dropped when 16 pile up.
func (s *Station) listen() {
	defer close(s.done)
	defer close(s.answers)
	source := &ended{Reader: s.cfg.Line}
	reader := bufio.NewReader(source)
	for {
		m, err := wire.Read(reader)
		if err != nil && source.err != nil {
			return
		}
		select {
		case s.answers <- answer{m, err}:
		default:
		}
	}
}

// ended remembers whether reading ended, which tells a dead line from a
// damaged one.
type ended struct {
	io.Reader
	err error
}

func (e *ended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.err = err
	return n, err
}

// Enroll makes the phone on the line the device id and returns its entry of
// the shipping manifest.
func (s *Station) Enroll(ctx context.Context, id device.ID) (*wire.Unit, error) {
	if _, err := device.ParseID(string(id)); err != nil {
		return nil, err
	}
	nonce := make([]byte, enroll.NonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	shown, err := s.ask(ctx, &wire.Message{Identify: &wire.Identify{Nonce: nonce}},
		func(m *wire.Message) bool { return m.Identity != nil })
	if err != nil {
		return nil, fmt.Errorf("identify: %w", err)
	}
	phone, err := checkIdentity(shown.Identity, nonce, s.cfg.EKRoots)
	if err != nil {
		return nil, s.refuse(err)
	}
	s.cfg.Log.Info("endorsement key and IDevID key are genuine", "model", shown.Identity.Model, "release", shown.Identity.Release)
	if err := s.activate(ctx, phone); err != nil {
		return nil, s.refuse(err)
	}
	s.cfg.Log.Info("attestation key lives beside the endorsement key")
	cert, err := s.cfg.Manufacturer.IssueIDevID(id, shown.Identity.Model, phone.key)
	if err != nil {
		return nil, s.refuse(err)
	}
	install := &wire.Install{Device: id, IDevID: [][]byte{cert}, Anchors: [][]byte{s.cfg.Manufacturer.CA.Raw}}
	if _, err := s.ask(ctx, &wire.Message{Install: install}, func(m *wire.Message) bool { return m.Installed != nil }); err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	s.cfg.Log.Info("IDevID installed", "device", id)
	return &wire.Unit{Device: id, Model: shown.Identity.Model, EK: sha256.Sum256(shown.Identity.EKPublic),
		AK: sha256.Sum256(shown.Identity.AK), IDevID: sha256.Sum256(cert)}, nil
}

// activate has the phone prove that EK and AK share one TPM.
func (s *Station) activate(ctx context.Context, phone *phone) error {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	ek, err := tpm2.ImportEncapsulationKey(phone.ek)
	if err != nil {
		return fmt.Errorf("endorsement key: %w", err)
	}
	blob, encrypted, err := tpm2.CreateCredential(rand.Reader, ek, phone.akName, secret)
	if err != nil {
		return fmt.Errorf("make credential: %w", err)
	}
	got, err := s.ask(ctx, &wire.Message{Activate: &wire.Activate{Blob: blob, Secret: encrypted}},
		func(m *wire.Message) bool { return m.Activated != nil })
	if err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	if subtle.ConstantTimeCompare(got.Activated.Secret, secret) != 1 {
		return errors.New("activate: the phone returned another secret: its keys are not in the TPM of this endorsement key")
	}
	return nil
}

// refuse tells the phone and returns err.
func (s *Station) refuse(err error) error {
	if errors.Is(err, ErrRefused) {
		return err
	}
	if sendErr := wire.Write(s.cfg.Line, &wire.Message{Refused: &wire.Refused{Reason: err.Error()}}); sendErr != nil {
		s.cfg.Log.Warn("could not tell the phone", "error", sendErr)
	}
	return err
}

// ask sends a request until the answer comes: requests may be repeated, and a
// line may be damaged.
func (s *Station) ask(ctx context.Context, request *wire.Message, wanted func(*wire.Message) bool) (*wire.Message, error) {
	var last error
	for try := range s.cfg.Tries {
		if try > 0 {
			s.cfg.Log.Warn("asking again", "cause", last)
		}
		if err := wire.Write(s.cfg.Line, request); err != nil {
			return nil, fmt.Errorf("write to the line: %w", err)
		}
		m, err := s.wait(ctx, wanted)
		if err == nil || errors.Is(err, ErrRefused) || errors.Is(err, io.EOF) || ctx.Err() != nil {
			return m, err
		}
		last = err
	}
	return nil, fmt.Errorf("no answer after %d tries: %w", s.cfg.Tries, last)
}

func (s *Station) wait(ctx context.Context, wanted func(*wire.Message) bool) (*wire.Message, error) {
	timer := time.NewTimer(s.cfg.Answer)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, fmt.Errorf("silence for %s", s.cfg.Answer)
		case a, ok := <-s.answers:
			switch {
			case !ok:
				return nil, fmt.Errorf("the line is closed: %w", io.EOF)
			case a.err != nil:
				return nil, a.err
			case a.message.Refused != nil:
				return nil, fmt.Errorf("%w: %s", ErrRefused, a.message.Refused.Reason)
			case wanted(a.message):
				return a.message, nil
			}
			// An answer that came late to a repeated request: pass it over.
		}
	}
}
