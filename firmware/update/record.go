package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"ringfence/provisioning/wire"
)

// record is what an updater remembers over reboots. It lies on the state
// partition, so it is believed only where a mistake costs an update, never a
// check: what says which image runs is the firmware, the command line that was
// measured, and the digests of the slots.
type record struct {
	Schema  int                  `json:"schema"`            // 1
	Slots   map[string]installed `json:"slots"`             // by slot
	Pending *pending             `json:"pending,omitempty"` // started, not settled
	Failed  []failure            `json:"failed,omitempty"`  // newest last
}

// installed is the image that a slot was given.
type installed struct {
	Release  string   `json:"release"`
	Sequence uint64   `json:"sequence"`
	SHA256   [32]byte `json:"sha256"`
}

// pending is the image that was told to start.
type pending struct {
	installed
	Target   string `json:"target"`
	Slot     string `json:"slot"`
	Register bool   `json:"register"` // the phone was registered before, so it must be again
	Attempts int    `json:"attempts"`
	Trial    bool   `json:"trial"` // it came so far as to read this
	Cause    string `json:"cause,omitempty"`
	Clean    bool   `json:"clean,omitempty"` // the boot after the revert was followed by another
}

// failure is an image that did not prove itself.
type failure struct {
	SHA256   [32]byte `json:"sha256"`
	Attempts int      `json:"attempts"`
}

const (
	maxRecord = 16 << 10
	maxFailed = 8
)

func (u *Updater) load() (*record, error) {
	raw, err := u.cfg.Store.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return &record{Schema: 1, Slots: map[string]installed{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the update record: %w", err)
	}
	r := new(record)
	if err := wire.DecodeStrict(raw, maxRecord, r); err != nil || r.Schema != 1 {
		// It must not end all updates: what it held is worth an attempt more.
		u.cfg.Log.Warn("update.record", "detail", "begun anew", "schema", r.Schema, "error", err)
		return &record{Schema: 1, Slots: map[string]installed{}}, nil
	}
	if r.Slots == nil {
		r.Slots = map[string]installed{}
	}
	return r, nil
}

func (u *Updater) save(r *record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := u.cfg.Store.Save(raw); err != nil {
		return fmt.Errorf("keep the update record: %w", err)
	}
	return nil
}

// sequence is that of the image in a slot, 0 when the record does not speak
// of this very image (one that the factory flashed, for one).
func (r *record) sequence(slot string, digests map[string][32]byte) uint64 {
	known, ok := r.Slots[slot]
	if digest, there := digests[slot]; !ok || !there || digest != known.SHA256 {
		return 0
	}
	return known.Sequence
}

func (r *record) attempts(digest [32]byte) int {
	for _, f := range r.Failed {
		if f.SHA256 == digest {
			return f.Attempts
		}
	}
	return 0
}

func (r *record) fail(digest [32]byte, attempts int) {
	for i := range r.Failed {
		if r.Failed[i].SHA256 == digest {
			r.Failed[i].Attempts = attempts
			return
		}
	}
	r.Failed = append(r.Failed, failure{digest, attempts})
	r.Failed = r.Failed[max(0, len(r.Failed)-maxFailed):]
}

// try notes that t is about to be started from the idle slot.
func (r *record) try(t *Target, status Status, before int) {
	slot := "a"
	if status.Running == "a" {
		slot = "b"
	}
	in := installed{t.Custom.Release, t.Custom.Sequence, t.SHA256}
	r.Slots[slot] = in
	r.Pending = &pending{installed: in, Target: t.Path, Slot: slot, Register: status.Registered, Attempts: before + 1}
}
