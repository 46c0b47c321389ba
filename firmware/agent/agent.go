// Package agent is the phone's own conduct towards its provisioning service:
// factory mode, bootstrap by voucher, enrolment, the management stream with
// attestation and configuration, renewal, and back-off between attempts. It
// places no calls, opens no device and listens on no port.
//
// Specifications: RFC 7030 (EST), RFC 8366 and RFC 8995 section 5 (voucher and
// provisional connection), RFC 5626 section 4.5 (back-off), provisioning/wire.
package agent

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"ringfence/firmware/attest"
	"ringfence/firmware/identity"
	"ringfence/firmware/lockcfg"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

// Floor is the configuration's version floor in TPM NV.
type Floor interface {
	lockcfg.Floor
	Define() error // called once, in factory mode
}

// Config is what an Agent needs. Fields without a stated zero value are
// required.
type Config struct {
	TPM      transport.TPM
	Floor    Floor
	StateDir string
	Model    device.Model
	Release  string
	Hint     func(ctx context.Context) (string, error) // https URL of the provisioning service; untrusted
	Logs     attest.Logs
	OnConfig func(*lock.Config) error // applies a configuration; an error refuses it
	Log      *slog.Logger

	// Serial opens the factory line; Run closes it. It is called only while the
	// phone has no identity: later it does not listen to a station. nil: no factory mode.
	Serial  func() (io.ReadWriteCloser, error)
	Dialer  identity.Dialer      // nil: net.Dialer
	OnEvent func(Event)          // nil: events are only logged
	Reports <-chan report.Report // read only while the stream is attested; nil: none

	ReleaseFloor interface{ Define() error } // defined in factory mode; nil: the phone takes no updates
	OnUpdate     func(wire.Update)           // a release that the service wants here; must not block; nil: refused
	Progress     <-chan wire.Progress        // read only while the stream is attested; nil: none

	Now   func() time.Time // nil: time.Now
	Retry Retry            // zero: 2 s to 5 min; after a refusal 30 s to 30 min
	Check time.Duration    // how often renewal is considered; zero: 30 s
}

func (c *Config) validate() error {
	if c.TPM == nil || c.Floor == nil {
		return errors.New("agent: no TPM: this phone cannot prove itself and does not enrol")
	}
	if c.StateDir == "" || c.Model == "" || c.Release == "" || c.Hint == nil || c.OnConfig == nil || c.Log == nil {
		return errors.New("agent: state directory, model, release, hint, configuration handler and log are all required")
	}
	return nil
}

// EventName is what happened.
type EventName string

// Events, in the order of a phone's life.
const (
	EventFactoryWaiting   EventName = "factory.waiting"
	EventFactoryInstalled EventName = "factory.installed"
	EventOwnerPinned      EventName = "owner.pinned"
	EventEnrolled         EventName = "enrolled"
	EventAttested         EventName = "attested"
	EventConfigured       EventName = "configured"
	EventConfigRefused    EventName = "config.refused"
	EventRefused          EventName = "evidence.refused"
	EventRenewed          EventName = "renewed"
	EventDisconnected     EventName = "disconnected"
)

// Event tells the rest of the phone what happened.
type Event struct {
	Name   EventName
	Detail string // one line for people, may be empty
}

// ErrNotProven reports that the provisioning service refused this phone's
// proof: the SIP key signs nothing until it is accepted again.
var ErrNotProven = errors.New("the provisioning service refused this phone's evidence")

// Agent is one phone's agent. Run may be called once; the SIP methods are safe
// for concurrent use with it.
type Agent struct {
	cfg      Config
	bootID   string
	keys     *identity.Keys
	factory  *identity.Factory
	owner    *x509.Certificate
	attester *attest.Attester
	keeper   *lockcfg.Keeper
	slots    map[enroll.Label]*identity.Slot
	recover  bool // the management certificate was refused: enrol by IDevID
	unheard  int  // streams in a row that the server closed without a word

	mu         sync.Mutex // guards what follows
	sip        *identity.Credential
	refused    bool
	repository *repository // nil before the first enrolment
}

// New checks cfg and returns an Agent. It sends no TPM command yet.
func New(cfg Config) (*Agent, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Check <= 0 {
		cfg.Check = 30 * time.Second
	}
	if err := cfg.Retry.fill(); err != nil {
		return nil, err
	}
	return &Agent{cfg: cfg, bootID: rand.Text()}, nil
}

// Run does everything until ctx ends or the phone cannot go on: then the error
// says what a person must do. Trouble with network or server is retried.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.identify(ctx); err != nil {
		return err
	}
	if err := a.prepare(); err != nil {
		return err
	}
	wait := a.cfg.Retry.start()
	for {
		err := a.session(ctx, wait.reset)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		delay := a.settle(err, wait)
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
}

// identify loads the phone's keys and name, in factory mode if there are none.
func (a *Agent) identify(ctx context.Context) error {
	var err error
	if a.keys, err = identity.Load(a.cfg.TPM, a.cfg.StateDir); err == nil {
		a.factory, err = identity.LoadFactory(a.cfg.StateDir, a.keys)
	}
	if errors.Is(err, identity.ErrNone) {
		return a.factoryMode(ctx)
	}
	return err
}

// prepare builds what depends on the phone's name and key.
func (a *Agent) prepare() error {
	var err error
	if a.attester, err = attest.New(a.keys, a.cfg.Logs); err != nil {
		return err
	}
	a.slots = map[enroll.Label]*identity.Slot{}
	for _, label := range []enroll.Label{enroll.Management, enroll.SIP} {
		if a.slots[label], err = identity.NewSlot(a.cfg.StateDir, label, a.keys, a.factory.Device); err != nil {
			return err
		}
	}
	if sip, err := a.usable(enroll.SIP); err != nil {
		return err
	} else if sip != nil {
		a.setSIP(sip)
	}
	a.owner, err = identity.LoadOwner(a.cfg.StateDir, a.factory)
	if errors.Is(err, identity.ErrNone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	return a.openConfig()
}

// openConfig makes the keeper once the owner is known and reads back what was
// stored. An unusable file is said and the phone goes on without it.
func (a *Agent) openConfig() error {
	key, err := a.keys.SealKey()
	if err != nil {
		return err
	}
	a.keeper, err = lockcfg.New(lockcfg.Config{Path: lockcfg.Path(a.cfg.StateDir), Key: key, Device: a.factory.Device,
		Owner: a.owner, Floor: a.cfg.Floor, Apply: a.cfg.OnConfig})
	if err != nil {
		return err
	}
	if _, err := a.keeper.Reload(); err != nil {
		a.event(EventConfigRefused, fmt.Sprintf("cause=%s %v", lock.Cause(err), err))
	}
	return nil
}

// settle says what ended a session and returns how long to wait.
func (a *Agent) settle(err error, wait *backoff) time.Duration {
	if errors.Is(err, errRenewed) {
		return 0
	}
	if refusal(err) {
		// Whatever was wrong with the certificate, the IDevID is the way back
		// (R21); evidence is judged anew either way.
		a.setRefused(true)
		a.recover = true
		a.event(EventRefused, err.Error())
		return wait.refused()
	}
	if errors.Is(err, errUnheard) {
		a.unheard++
	}
	if certificateRefused(err) || a.unheard >= 3 {
		a.recover, a.unheard = true, 0
	}
	a.event(EventDisconnected, err.Error())
	a.activate() // calls survive an outage of provisioning (R71)
	return wait.next()
}

func (a *Agent) activate() {
	if a.keeper == nil || a.isRefused() {
		return
	}
	done, err := a.keeper.Activate()
	switch {
	case err != nil:
		a.event(EventConfigRefused, err.Error())
	case done:
		a.event(EventConfigured, fmt.Sprintf("version=%d stored", a.keeper.Version()))
	}
}

func (a *Agent) event(name EventName, detail string) {
	level := slog.LevelInfo
	switch name {
	case EventConfigRefused, EventRefused, EventDisconnected:
		level = slog.LevelWarn
	}
	a.cfg.Log.Log(context.Background(), level, string(name), "detail", detail)
	if a.cfg.OnEvent != nil {
		a.cfg.OnEvent(Event{Name: name, Detail: detail})
	}
}
