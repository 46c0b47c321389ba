package measure

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Refusals of a boot.
var (
	ErrNoExtends = errors.New("the firmware measured nothing into the TPM")
	ErrMismatch  = errors.New("the TPM does not hold what the event log says")
)

// TCG PC Client Platform Firmware Profile 1.05, sections 9.2 and 10.2.
const (
	evNoAction   = 3
	algSHA1      = 0x0004
	algSHA256    = 0x000b
	algSHA384    = 0x000c
	algSHA512    = 0x000d
	maxLog       = 256 << 10 // bytes; the firmware's own area is 64 KiB
	firmwarePCRs = 8         // 0 to 7 belong to the firmware
)

func digestSize(alg uint16) int {
	return map[uint16]int{algSHA1: 20, algSHA256: 32, algSHA384: 48, algSHA512: 64}[alg]
}

// CheckBoot refuses a boot that was not measured: an event log without an
// extension of PCR 0, 4 or 7, or one that does not explain the values that the
// TPM holds in PCR 0 to 7. What the values should be is the appraiser's matter.
func CheckBoot(log []byte, read func(pcr int) ([32]byte, error)) error {
	want, extends, err := replay(log)
	if err != nil {
		return err
	}
	for _, pcr := range []int{0, 4, 7} { // firmware, boot application, Secure Boot policy
		if extends[pcr] == 0 {
			return fmt.Errorf("PCR %d: %w", pcr, ErrNoExtends)
		}
	}
	for pcr := range firmwarePCRs {
		got, err := read(pcr)
		if err != nil {
			return fmt.Errorf("compare PCR %d: %w", pcr, err)
		}
		if got != want[pcr] {
			return fmt.Errorf("PCR %d: %w", pcr, ErrMismatch)
		}
	}
	return nil
}

// replay returns what the SHA-256 bank must hold after the events of the log.
func replay(log []byte) (pcrs [24][32]byte, extends [24]int, err error) {
	if len(log) == 0 {
		return pcrs, extends, fmt.Errorf("empty event log: %w", ErrNoExtends)
	}
	if len(log) > maxLog {
		return pcrs, extends, fmt.Errorf("event log of %d bytes, at most %d", len(log), maxLog)
	}
	r := &reader{rest: log}
	r.header()
	for n := 0; len(r.rest) > 0 && r.err == nil; n++ {
		pcr, kind, digest := r.event()
		if r.err != nil {
			return pcrs, extends, fmt.Errorf("event %d: %w", n, r.err)
		}
		if kind == evNoAction {
			continue // 10.4.1: informative, not extended
		}
		if pcr >= uint32(len(pcrs)) || digest == nil {
			return pcrs, extends, fmt.Errorf("event %d: PCR %d without a SHA-256 digest", n, pcr)
		}
		pcrs[pcr] = sha256.Sum256(append(pcrs[pcr][:], digest...))
		extends[pcr]++
	}
	return pcrs, extends, r.err
}

// reader walks the little-endian log; after the first error it stands still.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.rest) {
		r.err = errors.New("event log is cut off")
		return make([]byte, max(0, min(n, 4))) // enough for u16 and u32
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }

// header reads the first event (TCG_PCR_EVENT, 10.2.1): the specification ID.
func (r *reader) header() {
	r.take(4 + 4 + 20)
	if id := r.take(int(r.u32())); r.err == nil && !bytes.HasPrefix(id, []byte("Spec ID Event03\x00")) {
		r.err = errors.New("event log is not crypto-agile")
	}
}

// event reads one TCG_PCR_EVENT2 (10.2.2) and returns its SHA-256 digest.
func (r *reader) event() (pcr, kind uint32, digest []byte) {
	pcr, kind = r.u32(), r.u32()
	count := r.u32()
	if count > 8 {
		r.err = fmt.Errorf("%d digests, at most 8", count)
	}
	for range count {
		if r.err != nil {
			return
		}
		alg := r.u16()
		size := digestSize(alg)
		if size == 0 {
			r.err = fmt.Errorf("unknown hash algorithm %#x", alg)
			return
		}
		if d := r.take(size); alg == algSHA256 {
			digest = d
		}
	}
	r.take(int(r.u32()))
	return pcr, kind, digest
}
