package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Event types that the appraiser tells apart (TCG PC Client Platform Firmware
// Profile 1.05, table 27).
const (
	EventNoAction          uint32 = 0x00000003
	EventSeparator         uint32 = 0x00000004
	EventIPL               uint32 = 0x0000000d
	EventVariableDriver    uint32 = 0x80000001
	EventVariableBoot      uint32 = 0x80000002
	EventBootApplication   uint32 = 0x80000003
	EventGPT               uint32 = 0x80000006
	EventAction            uint32 = 0x80000007
	EventVariableBoot2     uint32 = 0x8000000c
	EventVariableAuthority uint32 = 0x800000e0
)

// Refusals of logs.
var (
	ErrNoExtends = errors.New("the firmware measured nothing: a boot with no extends is refused")
	ErrReplay    = errors.New("log does not replay to the quoted register")
)

const (
	algSHA256    = 0x000b
	maxEvents    = 4096
	maxEventData = 1 << 20
	maxAlgs      = 8
)

// Event is one extension by the firmware. Digest was replayed into PCR; Data
// and Type are only descriptions unless [Event.DataMatches].
type Event struct {
	PCR    int
	Type   uint32
	Digest Digest
	Data   []byte
}

// DataMatches says that the digest is the digest of the whole event data, so
// that Data is as trustworthy as the register.
func (e Event) DataMatches() bool { return Digest(sha256.Sum256(e.Data)) == e.Digest }

// ReplayEventLog parses a crypto-agile TCG event log (section 10.2 of the
// profile) strictly and replays its SHA-256 bank. The result maps each PCR that
// was extended to its value; compare with [VerifyEventLog] before use.
func ReplayEventLog(raw []byte) ([]Event, map[int]Digest, error) {
	r := &reader{raw: raw}
	algs, err := specID(r)
	if err != nil {
		return nil, nil, fmt.Errorf("event log header: %w", err)
	}
	var events []Event
	values := make(map[int]Digest)
	for len(r.raw) > 0 {
		if len(events) == maxEvents {
			return nil, nil, fmt.Errorf("event log of more than %d events", maxEvents)
		}
		ev, err := readEvent(r, algs)
		if err != nil {
			return nil, nil, fmt.Errorf("event log entry %d: %w", len(events), err)
		}
		if ev.Type == EventNoAction {
			startupLocality(ev, values)
			continue
		}
		values[ev.PCR] = values[ev.PCR].Extend(ev.Digest)
		events = append(events, ev)
	}
	return events, values, nil
}

// VerifyEventLog replays raw against quoted register values. Every PCR from 0
// to 7 must have been extended at least once, every PCR that the log extends
// must be in quoted, and every value of quoted must be what the log gives.
func VerifyEventLog(raw []byte, quoted map[int]Digest) ([]Event, error) {
	events, values, err := ReplayEventLog(raw)
	if err != nil {
		return nil, err
	}
	for pcr := range 8 {
		if _, ok := values[pcr]; !ok {
			return nil, fmt.Errorf("PCR %d: %w", pcr, ErrNoExtends)
		}
	}
	for pcr := range 24 {
		value, extended := values[pcr]
		want, known := quoted[pcr]
		if extended && !known {
			return nil, fmt.Errorf("event log extends PCR %d, which is not quoted", pcr)
		}
		if value != want { // one that was not extended is zero
			return nil, fmt.Errorf("PCR %d replays to %s, quoted %s: %w", pcr, value, want, ErrReplay)
		}
	}
	return events, nil
}

// startupLocality applies the EV_NO_ACTION event of section 10.4.5.3: PCR 0
// then starts from the locality of TPM2_Startup.
func startupLocality(ev Event, values map[int]Digest) {
	const signature = "StartupLocality\x00"
	if _, extended := values[0]; extended || ev.PCR != 0 || len(ev.Data) != len(signature)+1 {
		return
	}
	if locality := ev.Data[len(signature)]; bytes.HasPrefix(ev.Data, []byte(signature)) && locality != 0 {
		values[0] = Digest{sha256.Size - 1: locality}
	}
}

// specID reads the first event, in the SHA-1 format, which lists the digest
// sizes of the others (section 10.4.5.1).
func specID(r *reader) (map[uint16]int, error) {
	pcr, kind := r.u32(), r.u32()
	r.take(20)
	body := &reader{raw: r.take(int(min(r.u32(), maxEventData)))}
	if r.failed || pcr != 0 || kind != EventNoAction {
		return nil, errors.New("not a crypto-agile log")
	}
	if !bytes.Equal(body.take(16), []byte("Spec ID Event03\x00")) {
		return nil, errors.New("not a Spec ID Event03")
	}
	body.take(8)
	n := body.u32()
	if n == 0 || n > maxAlgs {
		return nil, fmt.Errorf("%d digest algorithms, want 1 to %d", n, maxAlgs)
	}
	algs := make(map[uint16]int, n)
	for range n {
		alg, size := body.u16(), int(body.u16())
		if _, twice := algs[alg]; twice || size == 0 || size > 64 {
			return nil, fmt.Errorf("digest algorithm %#x of %d bytes", alg, size)
		}
		algs[alg] = size
	}
	body.take(int(body.u8()))
	if body.failed || len(body.raw) != 0 || algs[algSHA256] != sha256.Size {
		return nil, errors.New("malformed, or without a SHA-256 bank")
	}
	return algs, nil
}

func readEvent(r *reader, algs map[uint16]int) (Event, error) {
	ev := Event{}
	pcr := r.u32()
	ev.Type = r.u32()
	n := r.u32()
	if r.failed || pcr > 23 || int64(n) != int64(len(algs)) {
		return ev, fmt.Errorf("PCR %d with %d digests, want %d, or truncated", pcr, n, len(algs))
	}
	ev.PCR = int(pcr)
	seen := make(map[uint16]bool, n)
	for range n {
		alg := r.u16()
		size, ok := algs[alg]
		if !ok || seen[alg] {
			return ev, fmt.Errorf("digest algorithm %#x is unknown or repeated", alg)
		}
		seen[alg] = true
		if digest := r.take(size); alg == algSHA256 {
			copy(ev.Digest[:], digest)
		}
	}
	size := r.u32()
	if size > maxEventData {
		return ev, fmt.Errorf("event data of %d bytes, at most %d", size, maxEventData)
	}
	ev.Data = bytes.Clone(r.take(int(size)))
	if r.failed {
		return ev, errors.New("truncated")
	}
	return ev, nil
}

// reader takes little-endian fields; after the first overrun failed is set
// and every further field is zero.
type reader struct {
	raw    []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n < 0 || n > len(r.raw) {
		r.failed = true
		return nil
	}
	part := r.raw[:n]
	r.raw = r.raw[n:]
	return part
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}
