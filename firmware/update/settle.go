package update

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ringfence/provisioning/wire"
)

// settle ends what the last boot began: this is the trial of a new image, or
// the boot after one, or nothing.
func (u *Updater) settle(ctx context.Context) error {
	rec, err := u.load()
	if err != nil {
		u.cfg.Log.Error("update.record", "error", err) // offers are refused with it
		return nil
	}
	if rec.Pending == nil {
		return nil
	}
	status, err := u.cfg.Local.Status(ctx, false) // a phone that starts has better things to read
	if err != nil {
		return fmt.Errorf("settle update: %w", err)
	}
	p := rec.Pending
	runs := status.Running == p.Slot && p.Release == u.cfg.Release
	switch {
	case runs && status.Trial:
		return u.trial(ctx, rec)
	case runs: // the power went between the commit and its note
		return u.committed(ctx, rec)
	}
	if !p.Trial && !p.Clean {
		return u.cleanBoot(ctx, rec)
	}
	return u.reverted(rec)
}

// cleanBoot reboots once more into the old image. If the firmware could not
// start the new one, it measured that attempt into PCR 4 before it went on (TCG
// PFP 1.05, 3.3.4.5), and this boot's evidence would be refused.
func (u *Updater) cleanBoot(ctx context.Context, rec *record) error {
	rec.Pending.Clean = true
	if err := u.save(rec); err != nil {
		return err
	}
	u.cfg.Log.Warn("update.unstarted", "release", rec.Pending.Release)
	return u.reboot(ctx)
}

// reboot into the preferred slot once nobody uses the phone.
func (u *Updater) reboot(ctx context.Context) error {
	for {
		err := u.cfg.Local.Restart(ctx, false)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		select {
		case <-time.After(u.cfg.Retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// trial waits for health. An image that does not reach it is given up by a
// reboot: nothing prefers its slot.
func (u *Updater) trial(ctx context.Context, rec *record) error {
	p := rec.Pending
	p.Trial = true
	if err := u.save(rec); err != nil {
		return err
	}
	u.cfg.Log.Info("update.trial", "release", p.Release, "limit", u.cfg.Trial)
	limit, cancel := context.WithTimeout(ctx, u.cfg.Trial)
	defer cancel()
	err := u.await(limit, func() bool { return u.attested && (u.registered || !p.Register) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return u.giveUp(ctx, rec)
	}
	if err := u.cfg.Local.Commit(ctx); err != nil {
		return fmt.Errorf("commit release %s: %w", p.Release, err)
	}
	return u.committed(ctx, rec)
}

func (u *Updater) giveUp(ctx context.Context, rec *record) error {
	u.mu.Lock()
	cause := "register"
	if !u.attested {
		cause = "attest"
	}
	u.mu.Unlock()
	rec.Pending.Cause = cause
	if err := u.save(rec); err != nil {
		u.cfg.Log.Error("update.record", "error", err) // the reboot must come all the same
	}
	u.cfg.Log.Warn("update.unhealthy", "release", rec.Pending.Release, "cause", cause)
	return u.reboot(ctx)
}

// committed notes success and raises the floor as far as both slots allow.
func (u *Updater) committed(ctx context.Context, rec *record) error {
	rel := rec.Pending.Release
	rec.Pending = nil
	if err := u.save(rec); err != nil {
		return err
	}
	if err := u.discard(); err != nil {
		u.cfg.Log.Warn("update.download", "error", err) // costs room only
	}
	if err := u.raise(ctx, rec); err != nil {
		u.cfg.Log.Error("update.floor", "error", err) // the next update reads it and refuses
	}
	u.say(rel, wire.PhaseCommitted, "", nil)
	return nil
}

// raise sets the floor to the lower sequence of the two slots: both must stay
// bootable by the phone's own rule, and one that is unknown counts as 0.
func (u *Updater) raise(ctx context.Context, rec *record) error {
	status, err := u.cfg.Local.Status(ctx, true)
	if err != nil {
		return err
	}
	floor, err := u.cfg.Floor.Read()
	if err != nil {
		return err
	}
	both := min(rec.sequence("a", status.Digests), rec.sequence("b", status.Digests))
	if both <= floor {
		return nil
	}
	return u.cfg.Floor.Raise(both)
}

// reverted is the boot of the old image after the new one was told to start.
// Without a word of the new one it may have been a power cut: it is tried
// again, up to maxAttempts.
func (u *Updater) reverted(rec *record) error {
	p := *rec.Pending
	rec.Pending = nil
	rec.fail(p.SHA256, p.Attempts)
	again := p.Cause == "" && p.Attempts < maxAttempts
	cause := p.Cause
	switch {
	case cause == "" && p.Trial:
		cause = "crash"
	case cause == "":
		cause = "boot"
	}
	if !again {
		rec.fail(p.SHA256, maxAttempts)
	}
	if err := u.save(rec); err != nil {
		return err
	}
	if again {
		u.cfg.Log.Warn("update.again", "release", p.Release, "cause", cause, "attempts", p.Attempts)
		u.change(func() {
			if u.offer == nil {
				u.offer = &wire.Update{Release: p.Release, Target: p.Target}
			}
		})
		return nil
	}
	u.say(p.Release, wire.PhaseReverted, cause, fmt.Errorf("release %s did not prove itself (%s)", p.Release, cause))
	return nil
}
