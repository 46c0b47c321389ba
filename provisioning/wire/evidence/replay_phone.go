package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// PhoneState is what PID 1 proved: its log replayed to PCR 12 and 13.
type PhoneState struct {
	DeviceTree Digest         // of the canonical device tree
	Radios     []RadioFinding // in order; the first is of the boot
}

// Found lists every radio of every finding, once, in order of appearance.
func (s *PhoneState) Found() []string {
	var found []string
	seen := make(map[string]bool)
	for _, f := range s.Radios {
		for _, name := range f.Found {
			if !seen[name] {
				seen[name] = true
				found = append(found, name)
			}
		}
	}
	return found
}

// VerifyPhoneLog replays entries against the quoted PCR 12 and 13. There is
// exactly one device tree and at least one radio finding in a good log.
func VerifyPhoneLog(entries []Entry, deviceTree, radio Digest) (*PhoneState, error) {
	values := map[int]Digest{PCRDeviceTree: {}, PCRRadio: {}}
	state := new(PhoneState)
	trees := 0
	for i, e := range entries {
		if err := state.add(e); err != nil {
			return nil, fmt.Errorf("phone log entry %d: %w", i, err)
		}
		if e.PCR == PCRDeviceTree {
			trees++
		}
		values[e.PCR] = values[e.PCR].Extend(sha256.Sum256(e.Data))
	}
	if trees != 1 || len(state.Radios) == 0 {
		return nil, fmt.Errorf("phone log with %d device trees and %d radio findings, want 1 and at least 1", trees, len(state.Radios))
	}
	for pcr, want := range map[int]Digest{PCRDeviceTree: deviceTree, PCRRadio: radio} {
		if values[pcr] != want {
			return nil, fmt.Errorf("PCR %d replays to %s, quoted %s: %w", pcr, values[pcr], want, ErrReplay)
		}
	}
	return state, nil
}

func (s *PhoneState) add(e Entry) error {
	switch {
	case e.PCR == PCRDeviceTree && e.Kind == KindDeviceTree:
		if len(e.Data) != sha256.Size {
			return fmt.Errorf("device tree digest of %d bytes", len(e.Data))
		}
		s.DeviceTree = Digest(e.Data)
		return nil
	case e.PCR == PCRRadio && e.Kind == KindRadio:
		var f RadioFinding
		if err := json.Unmarshal(e.Data, &f); err != nil {
			return fmt.Errorf("radio finding: %w", err)
		}
		if !bytes.Equal(f.Canonical(), e.Data) {
			return errors.New("radio finding is not in canonical form")
		}
		s.Radios = append(s.Radios, f)
		return nil
	}
	return fmt.Errorf("kind %q in PCR %d", e.Kind, e.PCR)
}
