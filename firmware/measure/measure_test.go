package measure

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"ringfence/provisioning/wire/evidence"
)

// bank is a SHA-256 PCR bank in memory.
type bank map[int]evidence.Digest

func (b bank) ExtendPCR(i int, d [32]byte) error  { b[i] = b[i].Extend(d); return nil }
func (b bank) ReadPCR(i int) ([32]byte, error)    { return b[i], nil }
func (b bank) Close() error                       { return nil }
func (b bank) read(i int) (v [32]byte, err error) { return b.ReadPCR(i) }

type event struct {
	pcr, kind uint32
	digest    [32]byte
}

// encode writes a crypto-agile log (TCG PFP 10.2) with the given events.
func encode(events ...event) []byte {
	id := []byte("Spec ID Event03\x00 rest")
	log := make([]byte, 28)
	binary.LittleEndian.PutUint32(log[4:], evNoAction)
	log = binary.LittleEndian.AppendUint32(log, uint32(len(id)))
	log = append(log, id...)
	for _, e := range events {
		for _, v := range []uint32{e.pcr, e.kind, 1} {
			log = binary.LittleEndian.AppendUint32(log, v)
		}
		log = binary.LittleEndian.AppendUint16(log, algSHA256)
		log = append(log, e.digest[:]...)
		log = binary.LittleEndian.AppendUint32(log, 3)
		log = append(log, "abc"...)
	}
	return log
}

func TestCheckBoot(t *testing.T) {
	good := []event{{0, 8, [32]byte{1}}, {7, 4, [32]byte{2}}, {4, 5, [32]byte{3}}, {0, evNoAction, [32]byte{9}}}
	held := bank{}
	for _, e := range good[:3] {
		_ = held.ExtendPCR(int(e.pcr), e.digest)
	}
	altered := bank{0: held[0], 4: held[4], 7: held[7].Extend(evidence.Digest{1})}
	tests := []struct {
		name string
		log  []byte
		tpm  bank
		want error // nil with fail: any error
		fail bool
	}{
		{"measured boot", encode(good...), held, nil, false},
		{"no log at all", nil, held, ErrNoExtends, true},
		{"log with header only", encode(), bank{}, ErrNoExtends, true},
		{"boot application not measured", encode(good[:2]...), bank{0: held[0], 7: held[7]}, ErrNoExtends, true},
		{"only informative events", encode(event{0, evNoAction, [32]byte{}}), bank{}, ErrNoExtends, true},
		{"TPM holds something else", encode(good...), altered, ErrMismatch, true},
		{"truncated log", encode(good...)[:200], held, nil, true},
		{"not a log", bytes.Repeat([]byte{0xff}, 100), held, nil, true},
		{"oversized", make([]byte, maxLog+1), held, nil, true},
	}
	for _, tt := range tests {
		err := CheckBoot(tt.log, tt.tpm.read)
		if (err != nil) != tt.fail || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: CheckBoot = %v, want %v (error %v)", tt.name, err, tt.want, tt.fail)
		}
	}
}

func TestLogExplainsItsExtensions(t *testing.T) {
	tpm := bank{}
	path := filepath.Join(t.TempDir(), "log.json")
	l, err := NewLog(tpm, path)
	if err != nil {
		t.Fatal(err)
	}
	found := evidence.RadioFinding{Looked: evidence.RadioPlaces(), Found: []string{"bluetooth:hci0"}}
	for _, f := range []evidence.RadioFinding{evidence.CleanRadio(), found} {
		if err := l.Radio(f); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := ReadLog(path)
	if err != nil {
		t.Fatal(err)
	}
	var want evidence.Digest
	for _, e := range entries {
		want = want.Extend(sha256.Sum256(e.Data))
	}
	if len(entries) != 2 || tpm[evidence.PCRRadio] != want {
		t.Errorf("%d entries replay to %v, the TPM holds %v", len(entries), want, tpm[evidence.PCRRadio])
	}
}

func TestNewLogRefusesUsedRegisters(t *testing.T) {
	for _, pcr := range []int{12, 13} {
		if _, err := NewLog(bank{pcr: {1}}, "x"); err == nil {
			t.Errorf("NewLog with PCR %d extended succeeded, want an error", pcr)
		}
	}
}

func TestFullLogStillExtends(t *testing.T) {
	tpm := bank{}
	l, err := NewLog(tpm, filepath.Join(t.TempDir(), "log.json"))
	if err != nil {
		t.Fatal(err)
	}
	for range maxEntries {
		if err := l.Radio(evidence.CleanRadio()); err != nil {
			t.Fatal(err)
		}
	}
	before := tpm[evidence.PCRRadio]
	if err := l.Radio(evidence.CleanRadio()); err == nil || tpm[evidence.PCRRadio] == before {
		t.Errorf("65th finding: error %v, extended %v, want an error and an extension", err, tpm[evidence.PCRRadio] != before)
	}
}

func FuzzCheckBoot(f *testing.F) {
	f.Add(encode(event{0, 8, [32]byte{1}}))
	f.Fuzz(func(t *testing.T, log []byte) { _ = CheckBoot(log, bank{}.read) })
}
