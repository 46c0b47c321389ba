package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/release"
)

// errCall reports that a call came up meanwhile: calls come first.
var errCall = errors.New("a call came up")

// maxAttempts is how often an image may be started without proving itself: a
// power cut during its trial looks like one that hangs.
const maxAttempts = 2

// attempt goes once through an update. nil is an update that is done or a
// phone that reboots.
func (u *Updater) attempt(ctx context.Context, offer wire.Update) error {
	rec, err := u.load()
	if err != nil {
		return refuse("record", "%w", err)
	}
	if offer.Release == u.cfg.Release {
		u.say(offer.Release, wire.PhaseCommitted, "", nil)
		return nil
	}
	if err := u.idle(ctx, offer.Release); err != nil {
		return err
	}
	calm, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() { // ends with calm
		defer close(watched)
		if u.await(calm, func() bool { return u.busy }) == nil {
			cancel()
		}
	}()
	defer func() { cancel(); <-watched }()
	t, err := u.prepare(calm, offer, rec)
	if calm.Err() != nil && ctx.Err() == nil {
		return errCall
	}
	if err != nil {
		return err
	}
	u.say(offer.Release, wire.PhaseWritten, "", nil)
	return u.start(ctx, t, rec)
}

// idle waits for the end of a call.
func (u *Updater) idle(ctx context.Context, rel string) error {
	u.mu.Lock()
	busy := u.busy
	u.mu.Unlock()
	if busy {
		u.say(rel, wire.PhaseDeferred, "", nil)
	}
	return u.await(ctx, func() bool { return !u.busy })
}

// prepare verifies the target and brings it into the idle slot.
func (u *Updater) prepare(ctx context.Context, offer wire.Update, rec *record) (*Target, error) {
	status, err := u.cfg.Local.Status(ctx, true)
	if err != nil {
		return nil, err
	}
	if status.Trial {
		return nil, errors.New("the running release is on trial itself")
	}
	u.say(offer.Release, wire.PhaseDownloading, "", nil)
	t, err := u.cfg.Remote.Target(ctx, offer.Target)
	if err != nil {
		return nil, err
	}
	if err := u.judge(offer, t, rec, status); err != nil {
		return nil, err
	}
	proof, err := u.cfg.Remote.Proof(ctx, t.Path)
	if err != nil {
		return nil, err
	}
	entry := release.Entry{Target: t.Path, SHA256: hex.EncodeToString(t.SHA256[:]), Length: t.Length,
		Release: t.Custom.Release, Sequence: t.Custom.Sequence}
	if err := u.cfg.Verifier.VerifyProof(proof, entry); err != nil {
		return nil, refuse("log", "%w", err)
	}
	if err := u.download(ctx, t); err != nil {
		return nil, err
	}
	return t, u.write(ctx, t)
}

// judge holds a target against this phone. The floor is read each time: what
// cannot be read is not passed.
func (u *Updater) judge(offer wire.Update, t *Target, rec *record, status Status) error {
	c := t.Custom
	running, err := release.ParseVersion(u.cfg.Release)
	if err != nil {
		return err
	}
	version, err := release.ParseVersion(c.Release)
	switch {
	case err != nil:
		return refuse("metadata", "%w", err)
	case t.Path != offer.Target || c.Release != offer.Release:
		return refuse("release", "target %q is release %s, offered was %s as %q", t.Path, c.Release, offer.Release, offer.Target)
	case c.Model != u.cfg.Model:
		return refuse("model", "it is for model %q, this is a %q", c.Model, u.cfg.Model)
	case !slices.Contains(c.Hardware, u.cfg.Hardware):
		return refuse("hardware", "it is for hardware %q, this is %q", c.Hardware, u.cfg.Hardware)
	case version.Compare(running) <= 0:
		return refuse("sequence", "release %s is not newer than the running %s", c.Release, u.cfg.Release)
	case c.Sequence == 0 || c.Sequence <= rec.sequence(status.Running, status.Digests):
		return refuse("sequence", "sequence %d is not above the running one's %d", c.Sequence, rec.sequence(status.Running, status.Digests))
	case t.Length <= 0 || t.Length > status.Capacity:
		return refuse("size", "%d bytes, a slot holds %d", t.Length, status.Capacity)
	case rec.attempts(t.SHA256) >= maxAttempts:
		return refuse("failed", "this image was started %d times and never proved itself", maxAttempts)
	}
	floor, err := u.cfg.Floor.Read()
	if err != nil {
		return refuse("floor", "the TPM does not tell the rollback floor, so no image can be held against it: %w", err)
	}
	if c.Sequence < floor {
		return refuse("floor", "sequence %d is below the rollback floor %d", c.Sequence, floor)
	}
	return nil
}

// download completes the image file. One left from another image, or longer
// than this one, is begun anew.
func (u *Updater) download(ctx context.Context, t *Target) error {
	name, err := os.ReadFile(u.cfg.Image + ".name")
	if want := hex.EncodeToString(t.SHA256[:]); err != nil || string(name) != want {
		if err := u.discard(); err != nil {
			return err
		}
		if err := os.WriteFile(u.cfg.Image+".name", []byte(want), 0o600); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(u.cfg.Image, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size > t.Length {
		if err := errors.Join(f.Truncate(0), second(f.Seek(0, io.SeekStart))); err != nil {
			return err
		}
		size = 0
	}
	if size < t.Length {
		if err := u.cfg.Remote.Download(ctx, t, f, io.NewSectionReader(f, 0, size)); err != nil {
			var no *Refusal
			if errors.As(err, &no) {
				return errors.Join(err, u.discard())
			}
			return err
		}
	}
	return u.checkDigest(f, t)
}

func second(_ int64, err error) error { return err }

// checkDigest reads the whole file: what was resumed is believed no more than
// what is new.
func (u *Updater) checkDigest(f *os.File, t *Target) error {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(f, 0, t.Length+1))
	if err != nil {
		return err
	}
	if sum := [32]byte(h.Sum(nil)); n != t.Length || sum != t.SHA256 {
		return errors.Join(refuse("digest", "got %d bytes with digest %x, want %d with %x", n, sum, t.Length, t.SHA256), u.discard())
	}
	return nil
}

func (u *Updater) discard() error {
	for _, path := range []string{u.cfg.Image, u.cfg.Image + ".name"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (u *Updater) write(ctx context.Context, t *Target) error {
	f, err := os.Open(u.cfg.Image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := u.cfg.Local.Write(ctx, f, t.Length, t.SHA256); err != nil {
		return fmt.Errorf("write the idle slot: %w", err)
	}
	return nil
}

// start notes the attempt and reboots into the idle slot. The note comes
// first: an image that brings the phone down is counted.
func (u *Updater) start(ctx context.Context, t *Target, rec *record) error {
	status, err := u.cfg.Local.Status(ctx, false)
	if err != nil {
		return err
	}
	if err := u.idle(ctx, t.Custom.Release); err != nil {
		return err
	}
	rec.try(t, status, u.attempted(rec, t))
	if err := u.save(rec); err != nil {
		return err
	}
	u.say(t.Custom.Release, wire.PhaseRebooting, "", nil)
	u.drain(ctx)
	for said := false; ; said = true {
		err := u.cfg.Local.Restart(ctx, true)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if !said {
			u.say(t.Custom.Release, wire.PhaseDeferred, "", nil)
		}
		select { // off hook without a call is not told to us
		case <-time.After(u.cfg.Retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attempted is how often the image was started before. A note without the
// reboot that follows it does not count twice.
func (u *Updater) attempted(rec *record, t *Target) int {
	if rec.Pending != nil && rec.Pending.SHA256 == t.SHA256 {
		return rec.Pending.Attempts - 1
	}
	return rec.attempts(t.SHA256)
}

// drain gives the stream a moment to take what it shall tell before a reboot.
func (u *Updater) drain(ctx context.Context) {
	for range 20 {
		if len(u.progress) == 0 || ctx.Err() != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
