// Package update moves the phone to another release, or leaves it as it is:
// verify, write the idle slot, start it once, prove that it works, commit;
// otherwise the firmware is back at the old slot by itself. It parses no image,
// holds no key and opens no device.
//
// Order of proofs, before a byte reaches the slot: TUF metadata (threshold,
// expiry, rollback of metadata; the Remote's work), release, model, hardware
// revision, sequence, rollback floor, log proof, length and digest. What is
// decided after a reboot needs no clock.
//
// Specifications: TUF 1.0.31; C2SP tlog-proof; provisioning/wire (Update,
// Progress).
package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/release"
)

// Target is an image that verified metadata describes.
type Target struct {
	Path   string
	Length int64
	SHA256 [32]byte
	Custom release.Custom
}

// Remote is the update repository. An error that is a *Refusal is the
// repository's fault and final; any other is trouble on the way.
type Remote interface {
	// Target returns what verified metadata says of the path.
	Target(ctx context.Context, path string) (*Target, error)
	// Proof returns the target's log proof, not verified.
	Proof(ctx context.Context, path string) ([]byte, error)
	// Download appends to dst what is missing after have.
	Download(ctx context.Context, t *Target, dst io.Writer, have io.Reader) error
}

// Verifier checks that an entry is in the release log.
type Verifier interface {
	VerifyProof(proof []byte, entry release.Entry) error
}

// Local is the phone: its slots and its power.
type Local interface {
	// Status is the phone now; digests, which take a read of both slots, only
	// when asked for.
	Status(ctx context.Context, digests bool) (Status, error)
	// Write puts the image, size bytes, into the idle slot and reads it back.
	Write(ctx context.Context, image *os.File, size int64, digest [32]byte) error
	// Restart reboots, with try into the idle slot for once. It is ErrBusy while
	// a call is up or the handset is off hook.
	Restart(ctx context.Context, try bool) error
	// Commit makes the running slot the one that boots.
	Commit(ctx context.Context) error
}

// Status is what Local says.
type Status struct {
	Running    string              `json:"running"`  // slot, "a" or "b"
	Trial      bool                `json:"trial"`    // started once, not committed
	Capacity   int64               `json:"capacity"` // largest image in bytes
	Digests    map[string][32]byte `json:"digests"`  // of the images in the slots; no entry for an empty one
	Busy       bool                `json:"busy"`     // a call is up, or the handset is off hook
	Registered bool                `json:"registered"`
}

// Floor is the release floor in TPM NV.
type Floor interface {
	Read() (uint64, error)
	Raise(uint64) error
}

// Store keeps one record durably; Load is fs.ErrNotExist before the first Save.
type Store interface {
	Load() ([]byte, error)
	Save([]byte) error
}

// ErrBusy reports that a person is using the phone.
var ErrBusy = errors.New("the phone is in use")

// Refusal is a final no, with a cause of one word.
type Refusal struct {
	Cause string
	Err   error
}

func (r *Refusal) Error() string { return r.Cause + ": " + r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(cause, format string, args ...any) error {
	return &Refusal{cause, fmt.Errorf(format, args...)}
}

// Config is what an Updater needs. Fields without a stated zero value are
// required.
type Config struct {
	Local    Local
	Remote   Remote
	Verifier Verifier
	Floor    Floor
	Store    Store
	Image    string // file that holds the download
	Model    string
	Hardware string // revision of this phone
	Release  string // of the running image, measured
	Log      *slog.Logger

	Trial time.Duration // how long a new image may take to prove itself; zero: 5 min
	Retry time.Duration // first wait after trouble, doubled up to 64 times; zero: 5 s
}

func (c *Config) validate() error {
	if c.Local == nil || c.Remote == nil || c.Verifier == nil || c.Floor == nil || c.Store == nil || c.Log == nil {
		return errors.New("update: slots, repository, log verifier, floor, store and log are all required")
	}
	if c.Image == "" || c.Model == "" || c.Hardware == "" {
		return errors.New("update: image file, model and hardware revision are all required")
	}
	if _, err := release.ParseVersion(c.Release); err != nil {
		return fmt.Errorf("update: running release: %w", err)
	}
	if c.Trial < 0 || c.Retry < 0 {
		return errors.New("update: negative time")
	}
	return nil
}

// Updater is one phone's updater. Run may be called once; the other methods
// are safe for concurrent use with it and never block.
type Updater struct {
	cfg      Config
	progress chan wire.Progress

	mu         sync.Mutex // guards what follows
	offer      *wire.Update
	attested   bool
	registered bool
	busy       bool
	changed    chan struct{} // closed and replaced at each change
}

// queue is how many progress messages wait for the stream; then the oldest is
// dropped.
const queue = 16

// New checks cfg.
func New(cfg Config) (*Updater, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Trial == 0 {
		cfg.Trial = 5 * time.Minute
	}
	if cfg.Retry == 0 {
		cfg.Retry = 5 * time.Second
	}
	return &Updater{cfg: cfg, progress: make(chan wire.Progress, queue), changed: make(chan struct{})}, nil
}

// Progress is what the provisioning service is to hear, in order.
func (u *Updater) Progress() <-chan wire.Progress { return u.progress }

func (u *Updater) change(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f()
	close(u.changed)
	u.changed = make(chan struct{})
}

// Offer takes the service's wish. The newest counts.
func (u *Updater) Offer(m wire.Update) { u.change(func() { u.offer = &m }) }

// Attested notes that the service accepted this boot's evidence over TLS.
func (u *Updater) Attested() { u.change(func() { u.attested = true }) }

// Registered notes that the call server accepted a REGISTER, or lost it.
func (u *Updater) Registered(yes bool) { u.change(func() { u.registered = yes }) }

// Busy notes that a call is up, or has ended.
func (u *Updater) Busy(yes bool) { u.change(func() { u.busy = yes }) }

// await waits until ok, which is asked under the lock.
func (u *Updater) await(ctx context.Context, ok func() bool) error {
	for {
		u.mu.Lock()
		done, changed := ok(), u.changed
		u.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (u *Updater) say(rel string, phase wire.Phase, cause string, err error) {
	p := wire.Progress{Release: rel, Phase: phase, Cause: cause}
	if err != nil {
		p.Error = err.Error()
		p.Error = p.Error[:min(len(p.Error), 512)]
	}
	u.cfg.Log.Info("update."+string(phase), "release", rel, "cause", cause, "detail", p.Error)
	for {
		select {
		case u.progress <- p:
			return
		default:
		}
		select {
		case <-u.progress:
		default:
		}
	}
}

// Run settles what the last boot left and then follows offers until ctx ends.
func (u *Updater) Run(ctx context.Context) error {
	if err := u.settle(ctx); err != nil {
		return err
	}
	for {
		var offer wire.Update
		if err := u.await(ctx, func() bool {
			if u.offer == nil {
				return false
			}
			offer, u.offer = *u.offer, nil
			return true
		}); err != nil {
			return err
		}
		if err := u.follow(ctx, offer); err != nil {
			return err
		}
	}
}

// follow tries an offer until it is done, refused, replaced by another or ctx
// ends, which is the only error.
func (u *Updater) follow(ctx context.Context, offer wire.Update) error {
	wait := u.cfg.Retry
	for {
		err := u.attempt(ctx, offer)
		var no *Refusal
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.As(err, &no) {
			u.say(offer.Release, wire.PhaseRefused, no.Cause, no.Err)
			return nil
		}
		if errors.Is(err, errCall) {
			continue
		}
		u.cfg.Log.Warn("update.trouble", "release", offer.Release, "error", err, "again_in", wait)
		pause, cancel := context.WithTimeout(ctx, wait)
		replaced := u.await(pause, func() bool { return u.offer != nil }) == nil
		cancel()
		if replaced || ctx.Err() != nil {
			return ctx.Err()
		}
		wait = min(2*wait, 64*u.cfg.Retry)
	}
}
