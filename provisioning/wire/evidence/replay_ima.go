package evidence

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// PCRIMA is the register that Linux IMA extends.
const PCRIMA = 10

// BootAggregate is the path of the first entry of every IMA list; its digest
// is SHA-256(PCR 0 || ... || PCR 9).
const BootAggregate = "boot_aggregate"

// ErrViolation reports an IMA entry for a file that changed while it was
// measured.
var ErrViolation = errors.New("IMA violation: a file was measured while it was being written")

const (
	maxMeasurements = 16384
	maxTemplate     = 8 << 10
)

// Measurement is one entry of the IMA list.
type Measurement struct {
	Path   string
	SHA256 Digest
}

// VerifyIMA parses a binary_runtime_measurements list of the ima-ng template
// and replays it into PCR 10: for the SHA-256 bank the extension is
// SHA-256(template data). The list may have grown after the quote: entries
// behind the one that reaches quoted are not proved and not returned.
func VerifyIMA(raw []byte, quoted Digest) ([]Measurement, error) {
	r := &reader{raw: raw}
	var list []Measurement
	var value Digest
	proved := 0
	for len(r.raw) > 0 {
		if len(list) == maxMeasurements {
			return nil, fmt.Errorf("IMA list of more than %d entries", maxMeasurements)
		}
		m, extend, err := readMeasurement(r)
		if err != nil {
			return nil, fmt.Errorf("IMA entry %d: %w", len(list), err)
		}
		list = append(list, m)
		if value = value.Extend(extend); value == quoted {
			proved = len(list)
		}
	}
	if proved == 0 {
		return nil, fmt.Errorf("PCR %d replays to %s, quoted %s: %w", PCRIMA, value, quoted, ErrReplay)
	}
	if list[0].Path != BootAggregate {
		return nil, fmt.Errorf("IMA list begins with %q, want %s", list[0].Path, BootAggregate)
	}
	return list[:proved], nil
}

func readMeasurement(r *reader) (Measurement, Digest, error) {
	pcr := r.u32()
	templateHash := r.take(20)
	name := r.take(int(min(r.u32(), maxTemplate)))
	data := r.take(int(min(r.u32(), maxTemplate+1)))
	if r.failed || pcr != PCRIMA || string(name) != "ima-ng" || len(data) > maxTemplate {
		return Measurement{}, Digest{}, errors.New("truncated, oversized, or not an ima-ng entry of PCR 10")
	}
	if bytes.Equal(templateHash, make([]byte, 20)) {
		return Measurement{}, Digest{}, ErrViolation
	}
	fields := &reader{raw: data}
	hashed := fields.take(int(min(fields.u32(), maxTemplate)))
	path := fields.take(int(min(fields.u32(), maxTemplate)))
	if fields.failed || len(fields.raw) != 0 {
		return Measurement{}, Digest{}, errors.New("malformed template data")
	}
	digest, ok := bytes.CutPrefix(hashed, []byte("sha256:\x00"))
	text, terminated := strings.CutSuffix(string(path), "\x00")
	if !ok || len(digest) != sha256.Size || !terminated {
		return Measurement{}, Digest{}, errors.New("digest is not SHA-256, or path is not terminated")
	}
	return Measurement{Path: text, SHA256: Digest(digest)}, sha256.Sum256(data), nil
}
