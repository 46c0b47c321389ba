package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/firmware/intercom"
	"ringfence/firmware/update"
	"ringfence/hal/slot"
)

// slotKeeper is init's hold on the image slots. The agent asks; what a
// taken-over agent could do is fill the idle slot with what Secure Boot refuses
// to start, and reboot a phone that nobody is using.
type slotKeeper struct {
	mu    sync.Mutex // one writer
	slots *slot.Slots
}

// graceOverTrial is how much longer init waits than the agent, which knows
// the reason.
const graceOverTrial = time.Minute

// openSlots opens the slots and, when this image is on trial, begins to watch it.
func (m *machine) openSlots(context.Context) error {
	s, err := m.board.OpenSlots()
	if err != nil {
		return err
	}
	trial, err := s.Trial()
	if err != nil {
		return err
	}
	m.slots = &slotKeeper{slots: s}
	running, err := s.Running()
	if err != nil {
		return err
	}
	m.log.Info("slot", "running", running, "trial", trial)
	if trial {
		m.work.Go(m.watchTrial)
		return nil
	}
	return m.straighten(s)
}

// straighten prefers the running slot when the firmware could not start the
// other, and reboots: the failed attempt stands in PCR 4 of every boot that
// goes this way, and its evidence would be refused.
func (m *machine) straighten(s *slot.Slots) error {
	fell, err := s.FellBack()
	if err != nil || !fell {
		return err
	}
	if err := s.Commit(); err != nil {
		return err
	}
	m.log.Warn("the preferred slot did not start; rebooting into this one")
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// watchTrial reboots a phone whose new image was not committed in time: the
// firmware then starts the former one. It rests on nothing but PID 1.
func (m *machine) watchTrial() {
	time.Sleep(trialLimit() + graceOverTrial)
	for {
		m.slots.mu.Lock()
		trial, err := m.slots.slots.Trial()
		m.slots.mu.Unlock()
		if err == nil && !trial {
			return
		}
		m.log.Warn("trial ended without a commit")
		if busy, err := m.restart(false); err != nil || !busy {
			m.log.Error("restart", "error", err)
		}
		time.Sleep(10 * time.Second)
	}
}

// slotRequest answers the agent; mine is false for other verbs.
func (m *machine) slotRequest(r *intercom.Request) (answer any, mine bool, err error) {
	switch r.Verb {
	case verbSlots, verbInstall, verbRestart, verbCommit:
	default:
		return nil, false, nil
	}
	if m.slots == nil {
		return nil, true, errors.New("the image slots could not be opened; the console says why")
	}
	switch r.Verb {
	case verbSlots:
		var in slotsMessage
		if err = r.Decode(&in); err == nil {
			answer, err = m.slotStatus(in.Digests)
		}
	case verbInstall:
		var in installMessage
		if err = r.Decode(&in); err == nil {
			err = m.install(in, r.Files)
		}
	case verbCommit:
		err = m.slots.commit()
	case verbRestart:
		var in restartMessage
		if err = r.Decode(&in); err == nil {
			var busy bool
			busy, err = m.restart(in.Try)
			answer = restartAnswer{busy}
		}
	}
	return answer, true, err
}

func (m *machine) slotStatus(digests bool) (update.Status, error) {
	k := m.slots
	k.mu.Lock()
	defer k.mu.Unlock()
	running, err := k.slots.Running()
	if err != nil {
		return update.Status{}, err
	}
	trial, err := k.slots.Trial()
	if err != nil {
		return update.Status{}, err
	}
	s := update.Status{Running: running.String(), Trial: trial, Capacity: k.slots.Capacity(), Digests: map[string][32]byte{}}
	for _, id := range []slot.ID{slot.A, slot.B} {
		if !digests {
			break
		}
		sum, _, err := k.slots.Digest(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return s, err
		}
		s.Digests[id.String()] = sum
	}
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	s.Busy, s.Registered = m.hub.engaged || m.hub.offHook, m.hub.registered
	return s, nil
}

// install copies the image that the agent has open. It must be a regular
// file: a pipe could hold the slots up for ever.
func (m *machine) install(in installMessage, files []*os.File) error {
	if len(files) != 1 {
		return fmt.Errorf("%d descriptors, want the image's", len(files))
	}
	info, err := files[0].Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() < in.Size {
		return errors.New("the image is not a regular file of its size")
	}
	m.slots.mu.Lock()
	defer m.slots.mu.Unlock()
	if err := m.slots.slots.Write(files[0], in.Size, in.SHA256); err != nil {
		return err
	}
	m.log.Info("image written", "bytes", in.Size, "sha256", fmt.Sprintf("%x", in.SHA256))
	return nil
}

func (k *slotKeeper) commit() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.slots.Commit()
}

// restart reboots unless a person uses the phone: a lifted handset may be the
// beginning of an emergency call. It returns only if it did not.
func (m *machine) restart(try bool) (busy bool, err error) {
	m.slots.mu.Lock()
	defer m.slots.mu.Unlock()
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock() // held to the end: no call begins in between
	if m.hub.engaged || m.hub.offHook {
		return true, nil
	}
	if try {
		if err := m.slots.slots.TryOnce(); err != nil {
			return false, err
		}
	}
	m.log.Info("rebooting", "try", try)
	unix.Sync()
	return false, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
