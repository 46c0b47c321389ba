package push

import (
	"context"
	"fmt"
	"time"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/release"
)

// maxCause and maxError bound what a phone may say of an update, in bytes.
const (
	maxCause = 64
	maxError = 512
)

// offer tells a phone that has just proved itself of the update it should
// have, when it was away or lost the word.
func (st *stream) offer() error {
	updates := st.server.cfg.Updates
	if updates == nil {
		return nil
	}
	st.ready.Store(true)
	u := updates.Proved(st.device.ID, st.release)
	if u == nil {
		return nil
	}
	return st.write(&wire.Message{Update: u})
}

// progress records one step of an update; the end of one is audited.
func (st *stream) progress(ctx context.Context, p *wire.Progress, now time.Time) error {
	if _, err := release.ParseVersion(p.Release); err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	if len(p.Cause) > maxCause || len(p.Error) > maxError {
		return fmt.Errorf("progress with a cause of %d and an error of %d bytes, at most %d and %d", len(p.Cause), len(p.Error), maxCause, maxError)
	}
	final, err := ends(p.Phase)
	if err != nil {
		return err
	}
	gate, id := st.server.cfg.Gate, st.device.ID
	if err := gate.Fleet().Progress(ctx, id, p, now); err != nil {
		return err
	}
	if final {
		detail := fmt.Sprintf("release %s, proves %s", p.Release, st.release)
		if p.Cause != "" || p.Error != "" {
			detail += fmt.Sprintf(": %s: %q", p.Cause, p.Error)
		}
		if err := gate.Note(ctx, "device:"+string(id), "update."+string(p.Phase), string(id), detail); err != nil {
			return err
		}
	}
	if st.server.cfg.Updates == nil {
		return nil
	}
	return st.server.cfg.Updates.Progress(ctx, id, st.release, p, now)
}

// ends says whether phase is the last of an update.
func ends(phase wire.Phase) (bool, error) {
	switch phase {
	case wire.PhaseCommitted, wire.PhaseReverted, wire.PhaseRefused:
		return true, nil
	case wire.PhaseDeferred, wire.PhaseDownloading, wire.PhaseWritten, wire.PhaseRebooting:
		return false, nil
	}
	return false, fmt.Errorf("unknown update phase %q", phase)
}
