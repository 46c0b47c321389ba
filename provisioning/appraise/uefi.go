package appraise

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"unicode/utf16"

	"ringfence/provisioning/wire/evidence"
)

// variable decodes a UEFI_VARIABLE_DATA event (TCG profile, section 10.2.6):
// GUID, name length in characters, data length, UTF-16 name, data. The digest
// is over the whole event, or for boot variables over the data alone.
func variable(ev evidence.Event) (name string, value []byte, ok bool) {
	const header = 32
	raw := ev.Data
	if len(raw) < header {
		return "", nil, false
	}
	chars, size := binary.LittleEndian.Uint64(raw[16:]), binary.LittleEndian.Uint64(raw[24:])
	if chars > 512 || size > uint64(len(raw)) || header+2*chars+size != uint64(len(raw)) {
		return "", nil, false
	}
	name = text16(raw[header : header+2*chars])
	value = raw[header+2*chars:]
	return name, value, ev.DataMatches() || evidence.Digest(sha256.Sum256(value)) == ev.Digest
}

// loadOptionPath returns the file that an EFI_LOAD_OPTION starts (UEFI 2.10,
// 3.1.3), or "" when its device path holds no file path node (10.3.5.4).
func loadOptionPath(raw []byte) (string, error) {
	bad := errors.New("malformed load option")
	if len(raw) < 8 {
		return "", bad
	}
	size := int(binary.LittleEndian.Uint16(raw[4:]))
	rest := raw[6:]
	for { // description, UTF-16, NUL-terminated
		if len(rest) < 2 {
			return "", bad
		}
		end := rest[0] == 0 && rest[1] == 0
		rest = rest[2:]
		if end {
			break
		}
	}
	if size > len(rest) {
		return "", bad
	}
	path, nodes := "", rest[:size]
	for len(nodes) > 0 {
		if len(nodes) < 4 {
			return "", bad
		}
		n := int(binary.LittleEndian.Uint16(nodes[2:]))
		if n < 4 || n > len(nodes) {
			return "", bad
		}
		if nodes[0] == 4 && nodes[1] == 4 {
			path += text16(nodes[4:n])
		}
		nodes = nodes[n:]
	}
	return path, nil
}

func text16(raw []byte) string {
	var units []uint16
	for i := 0; i+1 < len(raw); i += 2 {
		u := binary.LittleEndian.Uint16(raw[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
