package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ringfence/boards"
	"ringfence/firmware/agent"
	"ringfence/firmware/intercom"
	"ringfence/firmware/sip"
	"ringfence/firmware/state"
	"ringfence/firmware/update"
	"ringfence/hal/tpm"
	"ringfence/provisioning/wire/release"
)

const (
	// trustPath is what this image believes about releases, measured with it.
	trustPath = "/release-trust.json"
	updateDir = stateDir + "/update"
	// trialWord on the measured command line shortens a trial, in seconds.
	trialWord = "ringfence.trial="
)

// trialLimit is how long a new image may take to prove itself.
func trialLimit() time.Duration {
	const usual = 5 * time.Minute
	cmdline, err := os.ReadFile(cmdlinePath)
	if err != nil {
		return usual
	}
	for w := range strings.FieldsSeq(string(cmdline)) {
		if text, ok := strings.CutPrefix(w, trialWord); ok {
			if n, err := strconv.ParseUint(text, 10, 12); err == nil && n > 0 {
				return time.Duration(n) * time.Second
			}
		}
	}
	return usual
}

// newUpdater wires firmware/update; nil when the image holds no release trust.
func (r *agentRole) newUpdater(ctx context.Context, board boards.Board, dev *tpm.Device, running string) (*update.Updater, error) {
	raw, err := state.Read(trustPath, release.MaxTrust)
	if errors.Is(err, os.ErrNotExist) {
		r.log.Warn("no updates", "detail", "this image holds no release trust")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	trust, err := release.ParseTrust(raw)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(updateDir, 0o700); err != nil {
		return nil, err
	}
	// A connection of its own: a slot takes seconds to write.
	init, err := intercom.Dial(ctx, socket(roleInit), uidInit, nil)
	if err != nil {
		return nil, err
	}
	remote, err := update.NewRepository(update.RepositoryConfig{Trust: trust, Dir: updateDir, Clock: clock,
		Connect: func() (update.Connection, error) {
			client, base, err := r.agent.Repository()
			return update.Connection{HTTP: client, Base: base}, err
		}})
	if err != nil {
		return nil, err
	}
	return update.New(update.Config{Local: slotsOfInit{init}, Remote: remote, Verifier: update.LogVerifier{Trust: trust},
		Floor: dev.Floor(tpm.ReleaseFloor), Store: recordFile(filepath.Join(updateDir, "record.json")), Image: filepath.Join(updateDir, "image"),
		Model: board.Name, Hardware: board.Hardware, Release: running, Log: r.log, Trial: trialLimit()})
}

// clock says whether the time is known: a clock before the year of this
// code's release was never set.
func clock() (time.Time, bool) {
	now := time.Now()
	return now, now.Year() >= 2026
}

// health tells the updater what its decision rests on.
func (r *agentRole) health(e agent.Event) {
	if r.updater != nil && e.Name == agent.EventAttested {
		r.updater.Attested()
	}
}

func (r *agentRole) line(in lineMessage) {
	if r.updater == nil {
		return
	}
	switch sip.Kind(in.Kind) {
	case sip.Registered:
		r.updater.Registered(true)
	case sip.Unregistered:
		r.updater.Registered(false)
	case sip.RingingIn, sip.RingingOut, sip.Answered:
		r.updater.Busy(true)
	case sip.Ended:
		r.updater.Busy(false)
	}
}

// slotsOfInit is update.Local over init.
type slotsOfInit struct{ init *intercom.Conn }

var _ update.Local = slotsOfInit{}

func (s slotsOfInit) Status(ctx context.Context, digests bool) (update.Status, error) {
	var status update.Status
	err := s.init.Call(ctx, verbSlots, slotsMessage{digests}, &status)
	return status, err
}

func (s slotsOfInit) Write(ctx context.Context, image *os.File, size int64, digest [32]byte) error {
	return s.init.Call(ctx, verbInstall, installMessage{size, digest}, nil, image)
}

func (s slotsOfInit) Commit(ctx context.Context) error { return s.init.Call(ctx, verbCommit, nil, nil) }

func (s slotsOfInit) Restart(ctx context.Context, try bool) error {
	var answer restartAnswer
	if err := s.init.Call(ctx, verbRestart, restartMessage{try}, &answer); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	if answer.Busy {
		return update.ErrBusy
	}
	return nil
}

// recordFile is update.Store as a file.
type recordFile string

const maxRecordFile = 64 << 10

func (f recordFile) Load() ([]byte, error)  { return state.Read(string(f), maxRecordFile) }
func (f recordFile) Save(data []byte) error { return state.Write(string(f), data) }
