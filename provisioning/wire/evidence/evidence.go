// Package evidence is what a phone shows to prove what it runs: a TPM quote,
// the logs that explain the quoted registers, and the TPM's word about keys.
// It decodes and replays; judging is the appraiser's job.
//
// Sources: TCG PC Client Platform Firmware Profile 1.05 (event log), TPM 2.0
// Library part 2 (TPMS_ATTEST, TPMT_SIGNATURE, TPMT_PUBLIC), Linux IMA
// (binary_runtime_measurements).
package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxSize bounds the JSON of one Evidence, in bytes.
const MaxSize = 384 << 10

// PCRs is the fixed selection that every quote covers, SHA-256 bank.
//
//	0-7  firmware, boot variables, boot applications, Secure Boot keys
//	9    command line and initramfs, by the kernel's EFI stub
//	10   IMA
//	11   kernel, os-release, command line and initramfs, by systemd-stub
//	12   device tree, by PID 1 (the first entry of the phone log)
//	13   radio findings, by PID 1
var PCRs = [...]int{0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13}

// PCRs that PID 1 extends, each extension with one [Entry] in the phone log.
const (
	PCRDeviceTree = 12
	PCRRadio      = 13
)

// Digest is a SHA-256 value; in text it is lower-case hexadecimal.
type Digest [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return fmt.Errorf("digest of %d characters, want %d", len(text), 2*len(d))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// String returns the hexadecimal form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Extend returns the PCR value after d was extended into pcr.
func (pcr Digest) Extend(d Digest) Digest {
	return sha256.Sum256(append(pcr[:], d[:]...))
}

// Evidence is one answer to a challenge. All byte fields are in the TPM's or
// kernel's own encoding and are untrusted until appraised.
type Evidence struct {
	AK             []byte         `json:"ak"`              // TPMT_PUBLIC of the attestation key
	Quote          []byte         `json:"quote"`           // TPMS_ATTEST (type TPM_ST_ATTEST_QUOTE), qualifyingData = enroll.Binding
	QuoteSignature []byte         `json:"quote_signature"` // TPMT_SIGNATURE over Quote by AK
	PCRValues      map[int][]byte `json:"pcr_values"`      // SHA-256 bank, exactly the indices of PCRs
	EventLog       []byte         `json:"event_log"`       // binary_bios_measurements
	IMALog         []byte         `json:"ima_log"`         // binary_runtime_measurements
	PhoneLog       []Entry        `json:"phone_log"`       // what PID 1 extended, in order
	Keys           []CertifiedKey `json:"keys,omitempty"`  // enrolment only: keys that live in the same TPM
}

// Entry is one extension by PID 1: PCR = SHA256(PCR || SHA256(Data)).
type Entry struct {
	PCR  int    `json:"pcr"`
	Kind string `json:"kind"` // "devicetree" or "radio"
	Data []byte `json:"data"` // what was hashed; for the device tree: its canonical digest
}

// Kinds of phone log entries.
const (
	KindDeviceTree = "devicetree" // Data = 32-byte SHA-256 of the canonical device tree
	KindRadio      = "radio"      // Data = canonical JSON of RadioFinding
)

// RadioFinding is the content of a radio entry. The first entry of a boot is
// written before any other role starts; a radio that appears later adds one.
type RadioFinding struct {
	Looked []string `json:"looked"` // what was looked for and where, sorted
	Found  []string `json:"found"`  // e.g. "wlan:phy0 (mac80211_hwsim)", "bluetooth:hci0"; sorted; empty = none
}

// radioPlaces is where PID 1 looks for radios (sysfs globs), sorted: every
// finding names exactly these, so the clean finding is one fixed value.
var radioPlaces = [...]string{
	"/sys/class/bluetooth/*",
	"/sys/class/ieee80211/*",
	"/sys/class/lirc/*",
	"/sys/class/net/*/phy80211",
	"/sys/class/net/*/wireless",
	"/sys/class/nfc/*",
	"/sys/class/rc/*",
	"/sys/class/rfkill/*",
}

// RadioPlaces returns a copy of the list of places.
func RadioPlaces() []string { return append([]string(nil), radioPlaces[:]...) }

// CleanRadio is the finding of a phone without radios: with only its entry in
// the log, PCR 13 is Digest{}.Extend(SHA-256(CleanRadio().Canonical())).
func CleanRadio() RadioFinding { return RadioFinding{Looked: RadioPlaces(), Found: []string{}} }

// Canonical is the exact text that is hashed into PCR 13.
func (f RadioFinding) Canonical() []byte {
	text, _ := json.Marshal(f) // two string lists cannot fail
	return text
}

// CertifiedKey is a key with the TPM's certification that it lives there
// (TPM2_Certify by AK, qualifyingData = enroll.Binding).
type CertifiedKey struct {
	Use       string `json:"use"`       // "management", "sip" or "seal"
	Public    []byte `json:"public"`    // TPMT_PUBLIC
	Certify   []byte `json:"certify"`   // TPMS_ATTEST (type TPM_ST_ATTEST_CERTIFY)
	Signature []byte `json:"signature"` // TPMT_SIGNATURE over Certify by AK
}

// Uses of certified keys.
const (
	UseManagement = "management" // TLS client of the provisioning service
	UseSIP        = "sip"        // TLS client of the call server
	UseSeal       = "seal"       // P-256 ECDH, recipient of locked configurations (HPKE)
)

// Encode returns the evidence as JSON.
func (e *Evidence) Encode() ([]byte, error) {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("encode evidence: %d bytes, at most %d", len(raw), MaxSize)
	}
	return raw, nil
}

// Decode reads evidence strictly: bounded, no unknown fields, every PCR of the
// selection with a value of the right size and no other.
func Decode(raw []byte) (*Evidence, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("evidence of %d bytes, at most %d", len(raw), MaxSize)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	e := new(Evidence)
	if err := dec.Decode(e); err != nil {
		return nil, fmt.Errorf("decode evidence: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the evidence")
	}
	return e, e.Validate()
}

// Validate checks the shape of e: every PCR of the selection with a value of
// the right size, no other, and bounded lists.
func (e *Evidence) Validate() error {
	if len(e.PCRValues) != len(PCRs) {
		return fmt.Errorf("evidence has %d PCR values, want %d", len(e.PCRValues), len(PCRs))
	}
	for _, i := range PCRs {
		if len(e.PCRValues[i]) != sha256.Size {
			return fmt.Errorf("PCR %d has %d bytes, want %d", i, len(e.PCRValues[i]), sha256.Size)
		}
	}
	if len(e.PhoneLog) > 64 || len(e.Keys) > 4 {
		return fmt.Errorf("evidence has %d phone log entries and %d keys, at most 64 and 4", len(e.PhoneLog), len(e.Keys))
	}
	return nil
}
