// Package attest builds the evidence that a phone shows: a quote by its
// attestation key, the logs that explain the quoted registers, and the TPM's
// word about the phone's keys. It judges nothing and keeps nothing.
//
// Specifications: TPM 2.0 Library part 3 (TPM2_Quote, TPM2_Certify), TCG PC
// Client Platform Firmware Profile 1.05 (event log), Linux IMA.
package attest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/go-tpm/tpm2"

	"ringfence/provisioning/wire/evidence"
)

// Quoter is the TPM side: firmware/identity's Keys.
type Quoter interface {
	AK() []byte
	PCRs(pcrs []int) (map[int][]byte, error)
	Quote(pcrs []int, qualifying []byte) (quote, signature []byte, err error)
	Certify(use string, qualifying []byte) (evidence.CertifiedKey, error)
}

// Logs is where the logs come from.
type Logs struct {
	Event func() ([]byte, error)  // binary_bios_measurements; nil: the kernel's file
	IMA   func() ([]byte, error)  // binary_runtime_measurements; nil: the kernel's file
	Phone func() []evidence.Entry // what PID 1 extended; required
}

// The kernel's files (securityfs).
const (
	EventLogPath = "/sys/kernel/security/tpm0/binary_bios_measurements"
	IMALogPath   = "/sys/kernel/security/ima/binary_runtime_measurements"
)

// ErrNoExtends reports a boot that measured nothing.
var ErrNoExtends = errors.New("the boot measured nothing: empty event log")

// Attester builds evidence. Safe for concurrent use if its parts are.
type Attester struct {
	quoter Quoter
	logs   Logs
}

// New returns an Attester; quoter and logs.Phone are required.
func New(quoter Quoter, logs Logs) (*Attester, error) {
	if quoter == nil || logs.Phone == nil {
		return nil, errors.New("attester: no quoter or no phone log")
	}
	if logs.Event == nil {
		logs.Event = func() ([]byte, error) { return readLog(EventLogPath) }
	}
	if logs.IMA == nil {
		logs.IMA = func() ([]byte, error) { return readLog(IMALogPath) }
	}
	return &Attester{quoter: quoter, logs: logs}, nil
}

func readLog(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, evidence.MaxSize+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(raw) > evidence.MaxSize {
		return nil, fmt.Errorf("%s: more than %d bytes", path, evidence.MaxSize)
	}
	return raw, nil
}

// EventLog returns the firmware's event log; a boot without one is an error.
func (a *Attester) EventLog() ([]byte, error) {
	raw, err := a.logs.Event()
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	if len(raw) == 0 {
		return nil, ErrNoExtends
	}
	return raw, nil
}

// attempts bounds how often a quote is repeated because IMA extended PCR 10
// meanwhile.
const attempts = 8

// Evidence quotes over qualifying (enroll.Binding) and certifies the keys uses.
func (a *Attester) Evidence(qualifying []byte, uses ...string) (*evidence.Evidence, error) {
	eventLog, err := a.EventLog()
	if err != nil {
		return nil, err
	}
	e, err := a.quiet(qualifying)
	if err != nil {
		return nil, err
	}
	e.AK, e.EventLog = a.quoter.AK(), eventLog
	for _, use := range uses {
		key, err := a.quoter.Certify(use, qualifying)
		if err != nil {
			return nil, err
		}
		e.Keys = append(e.Keys, key)
	}
	return e, e.Validate()
}

// quiet repeats until registers, quote and logs agree: IMA and PID 1 extend
// while we read.
func (a *Attester) quiet(qualifying []byte) (*evidence.Evidence, error) {
	for range attempts {
		e, err := a.once(qualifying)
		if err != nil || e != nil {
			return e, err
		}
	}
	return nil, fmt.Errorf("registers changed during each of %d quotes", attempts)
}

// once returns nil and no error when a register changed meanwhile.
func (a *Attester) once(qualifying []byte) (*evidence.Evidence, error) {
	pcrs := evidence.PCRs[:]
	before, err := a.quoter.PCRs(pcrs)
	if err != nil {
		return nil, err
	}
	quote, signature, err := a.quoter.Quote(pcrs, qualifying)
	if err != nil {
		return nil, err
	}
	quoted, err := quotedDigest(quote)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(quoted, pcrDigest(before)) {
		return nil, nil
	}
	e := &evidence.Evidence{Quote: quote, QuoteSignature: signature, PCRValues: before, PhoneLog: a.logs.Phone()}
	if e.IMALog, err = a.logs.IMA(); err != nil {
		return nil, fmt.Errorf("read IMA log: %w", err)
	}
	after, err := a.quoter.PCRs(pcrs)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(pcrDigest(before), pcrDigest(after)) {
		return nil, nil
	}
	return e, nil
}

// pcrDigest is TPMS_QUOTE_INFO.pcrDigest: the registers in ascending order.
func pcrDigest(values map[int][]byte) []byte {
	h := sha256.New()
	for _, i := range evidence.PCRs {
		h.Write(values[i])
	}
	return h.Sum(nil)
}

func quotedDigest(quote []byte) ([]byte, error) {
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](quote)
	if err != nil {
		return nil, fmt.Errorf("parse own quote: %w", err)
	}
	info, err := attest.Attested.Quote()
	if err != nil {
		return nil, fmt.Errorf("parse own quote: %w", err)
	}
	return info.PCRDigest.Buffer, nil
}
