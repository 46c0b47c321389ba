package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Offsets in a PE32+ file (PE/COFF specification 2.4, 3.3 and 3.4); those of
// the optional header count from its start.
const (
	peOffsetAt       = 0x3c
	coffSize         = 24 // signature and COFF header
	optInitialized   = 8
	optSectionAlign  = 32
	optFileAlign     = 36
	optSizeOfImage   = 56
	optSizeOfHeaders = 60
	optCheckSum      = 64
	optDirCount      = 108
	optCertificates  = 144 // data directory 4, a file offset and a size
	sectionSize      = 40
	maxSections      = 32
	// sectionSpacing keeps a kernel at an address that any page size can map.
	sectionSpacing = 0x10000
)

// Section is a part of a PE file.
type Section struct {
	Name string // at most 8 bytes
	Data []byte
}

// peFile is a checked PE32+ file.
type peFile struct {
	raw      []byte
	opt      int // offset of the optional header
	table    int // offset of the section table
	sections int
}

func parsePE(raw []byte) (*peFile, error) {
	le := binary.LittleEndian
	if len(raw) < 0x40 || raw[0] != 'M' || raw[1] != 'Z' {
		return nil, errors.New("not a PE file: no MZ header")
	}
	pe := int(le.Uint32(raw[peOffsetAt:]))
	if pe > len(raw)-coffSize || string(raw[pe:pe+4]) != "PE\x00\x00" {
		return nil, errors.New("not a PE file: no PE signature")
	}
	f := &peFile{raw: raw, opt: pe + coffSize, sections: int(le.Uint16(raw[pe+6:]))}
	f.table = f.opt + int(le.Uint16(raw[pe+20:]))
	if f.table < f.opt+optCertificates+8 || f.sections > maxSections || f.table+f.sections*sectionSize > len(raw) {
		return nil, errors.New("PE file: headers are cut short")
	}
	if le.Uint16(raw[f.opt:]) != 0x20b || le.Uint32(raw[f.opt+optDirCount:]) < 5 {
		return nil, errors.New("PE file: not PE32+ with a certificate directory")
	}
	if int(f.u32(optSizeOfHeaders)) > len(raw) {
		return nil, errors.New("PE file: headers are cut short")
	}
	return f, f.checkSections()
}

func (f *peFile) checkSections() error {
	for i := range f.sections {
		name, _, _, size, offset := f.section(i)
		if uint64(offset)+uint64(size) > uint64(len(f.raw)) {
			return fmt.Errorf("PE file: section %s lies outside the file", name)
		}
	}
	dir := f.opt + optCertificates
	at, size := binary.LittleEndian.Uint32(f.raw[dir:]), binary.LittleEndian.Uint32(f.raw[dir+4:])
	if size != 0 && uint64(at)+uint64(size) != uint64(len(f.raw)) {
		return errors.New("PE file: certificates are not at its end")
	}
	return nil
}

func (f *peFile) u32(at int) uint32 { return binary.LittleEndian.Uint32(f.raw[f.opt+at:]) }

func (f *peFile) setU32(at int, v uint32) { binary.LittleEndian.PutUint32(f.raw[f.opt+at:], v) }

func (f *peFile) section(i int) (name string, vsize, address, size, offset uint32) {
	h := f.raw[f.table+i*sectionSize:]
	le := binary.LittleEndian
	return string(bytes.TrimRight(h[:8], "\x00")), le.Uint32(h[8:]), le.Uint32(h[12:]), le.Uint32(h[16:]), le.Uint32(h[20:])
}

// AppendSections returns the PE file with more sections behind its own. The
// headers must have room, as those of systemd's stubs have.
func AppendSections(stub []byte, add []Section) ([]byte, error) {
	f, err := parsePE(slices.Clone(stub))
	if err != nil {
		return nil, err
	}
	if f.u32(optCertificates+4) != 0 {
		return nil, errors.New("PE file is signed already")
	}
	if f.sections+len(add) > maxSections || f.table+(f.sections+len(add))*sectionSize > int(f.u32(optSizeOfHeaders)) {
		return nil, fmt.Errorf("PE headers have no room for %d more sections", len(add))
	}
	for _, s := range add {
		if len(s.Name) == 0 || len(s.Name) > 8 || len(s.Data) == 0 {
			return nil, fmt.Errorf("PE section %q: empty, or name not of 1 to 8 bytes", s.Name)
		}
		f.add(s)
	}
	for len(f.raw)%8 != 0 { // Authenticode signatures start at a multiple of 8
		f.raw = append(f.raw, 0)
	}
	f.setU32(optCheckSum, 0)
	return f.raw, nil
}

func (f *peFile) add(s Section) {
	le := binary.LittleEndian
	fileAlign, sectionAlign := f.u32(optFileAlign), f.u32(optSectionAlign)
	offset := alignUp(uint32(len(f.raw)), fileAlign)
	address := alignUp(f.u32(optSizeOfImage), sectionSpacing)
	size := alignUp(uint32(len(s.Data)), fileAlign)

	h := f.raw[f.table+f.sections*sectionSize:][:sectionSize]
	clear(h)
	copy(h, s.Name)
	le.PutUint32(h[8:], uint32(len(s.Data)))
	le.PutUint32(h[12:], address)
	le.PutUint32(h[16:], size)
	le.PutUint32(h[20:], offset)
	le.PutUint32(h[36:], 0x40000040) // IMAGE_SCN_MEM_READ, CNT_INITIALIZED_DATA

	grown := make([]byte, offset+size)
	copy(grown, f.raw)
	copy(grown[offset:], s.Data)
	f.raw = grown
	f.sections++
	le.PutUint16(f.raw[f.opt-coffSize+6:], uint16(f.sections))
	f.setU32(optInitialized, f.u32(optInitialized)+size)
	f.setU32(optSizeOfImage, alignUp(address+uint32(len(s.Data)), sectionAlign))
}

func alignUp(n, to uint32) uint32 { return (n + to - 1) &^ (to - 1) }

// FindSection returns the content of a section, without padding.
func FindSection(raw []byte, name string) ([]byte, error) {
	f, err := parsePE(raw)
	if err != nil {
		return nil, err
	}
	for i := range f.sections {
		if n, vsize, _, size, offset := f.section(i); n == name {
			return raw[offset : offset+min(vsize, size)], nil
		}
	}
	return nil, fmt.Errorf("PE file has no section %s", name)
}

// Authenticode returns the SHA-256 that a Secure Boot signature covers and
// that the firmware extends into PCR 4 (Windows Authenticode Portable
// Executable Signature Format, "Calculating the PE image hash"): everything
// but the checksum, the certificate directory entry and the certificates.
func Authenticode(raw []byte) ([32]byte, error) {
	f, err := parsePE(raw)
	if err != nil {
		return [32]byte{}, err
	}
	h := sha256.New()
	sum, dir, headers := f.opt+optCheckSum, f.opt+optCertificates, int(f.u32(optSizeOfHeaders))
	if headers < dir+8 {
		return [32]byte{}, errors.New("PE file: headers are cut short")
	}
	h.Write(raw[:sum])
	h.Write(raw[sum+4 : dir])
	h.Write(raw[dir+8 : headers])
	type part struct{ offset, size uint32 }
	var parts []part
	for i := range f.sections {
		if _, _, _, size, offset := f.section(i); size > 0 {
			parts = append(parts, part{offset, size})
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return int(a.offset) - int(b.offset) })
	hashed := headers
	for _, p := range parts {
		h.Write(raw[p.offset : p.offset+p.size])
		hashed += int(p.size)
	}
	if end := len(raw) - int(f.u32(optCertificates+4)); hashed < end {
		h.Write(raw[hashed:end])
	}
	return [32]byte(h.Sum(nil)), nil
}
