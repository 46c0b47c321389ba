package measure

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"ringfence/hal"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/evidence"
)

// maxEntries is what evidence may carry; further extensions happen without an
// entry, so that such a phone can no longer prove itself.
const maxEntries = 64

// Log extends the registers that belong to PID 1 and keeps its entries in a
// file that other roles read. It is safe for concurrent use.
type Log struct {
	tpm  hal.PCRs
	path string

	mu      sync.Mutex
	entries []evidence.Entry
}

// NewLog returns an empty log kept at path. The registers must be untouched:
// somebody who extended them before PID 1 is a refusal.
func NewLog(tpm hal.PCRs, path string) (*Log, error) {
	if tpm == nil || path == "" {
		return nil, errors.New("measure: no TPM or no path")
	}
	for _, pcr := range []int{evidence.PCRDeviceTree, evidence.PCRRadio} {
		got, err := tpm.ReadPCR(pcr)
		if err != nil {
			return nil, err
		}
		if got != [32]byte{} {
			return nil, fmt.Errorf("PCR %d was extended before PID 1", pcr)
		}
	}
	return &Log{tpm: tpm, path: path}, nil
}

// DeviceTree extends PCR 12 with the canonical digest of the device tree.
func (l *Log) DeviceTree(blob []byte) error {
	digest, err := DeviceTree(blob)
	if err != nil {
		return fmt.Errorf("measure device tree: %w", err)
	}
	return l.extend(evidence.PCRDeviceTree, evidence.KindDeviceTree, digest[:])
}

// Radio extends PCR 13 with a radio finding.
func (l *Log) Radio(f evidence.RadioFinding) error {
	return l.extend(evidence.PCRRadio, evidence.KindRadio, f.Canonical())
}

func (l *Log) extend(pcr int, kind string, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	// TPM first: an entry without its extension would be a lie, an extension
	// without its entry only costs the phone its proof.
	if err := l.tpm.ExtendPCR(pcr, sha256.Sum256(data)); err != nil {
		return err
	}
	if len(l.entries) >= maxEntries {
		return fmt.Errorf("phone log is full with %d entries", maxEntries)
	}
	l.entries = append(l.entries, evidence.Entry{PCR: pcr, Kind: kind, Data: data})
	return l.write()
}

func (l *Log) write() error {
	raw, err := json.Marshal(l.entries)
	if err != nil {
		return fmt.Errorf("encode phone log: %w", err)
	}
	// Readers see the old or the new file, never a part.
	temp := filepath.Join(filepath.Dir(l.path), "."+filepath.Base(l.path))
	if err := os.WriteFile(temp, raw, 0o644); err != nil {
		return fmt.Errorf("write phone log: %w", err)
	}
	if err := os.Rename(temp, l.path); err != nil {
		return fmt.Errorf("publish phone log: %w", err)
	}
	return nil
}

// ReadLog reads the log that a Log keeps at path.
func ReadLog(path string) ([]evidence.Entry, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read phone log: %w", err)
	}
	var entries []evidence.Entry
	if err := wire.DecodeStrict(raw, evidence.MaxSize, &entries); err != nil {
		return nil, fmt.Errorf("decode phone log: %w", err)
	}
	return entries, nil
}
