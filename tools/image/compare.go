package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"ringfence/provisioning/wire/release"
)

// Part is one component of an image, compared.
type Part struct {
	Name   string `json:"name"`
	Image  string `json:"image"`  // SHA-256 in the image, "" = not there
	Source string `json:"source"` // SHA-256 as rebuilt, "" = not there
	Same   bool   `json:"same"`
	Note   string `json:"note,omitempty"` // what is known about a difference
}

// VerifyConfig says how an image should have been built. Manufacturer and Out
// are not used.
type VerifyConfig struct {
	BuildConfig
	RebuildKernel bool // build the kernel too instead of trusting the cache (3 minutes, 2.5 GB)
}

// Verify rebuilds an image from its sources and compares it with image, signed
// or not, part by part. The second result tells whether everything that a
// Secure Boot signature covers is the same.
func Verify(ctx context.Context, c VerifyConfig, image []byte) ([]Part, bool, error) {
	if c.Board != filepath.Base(c.Board) {
		return nil, false, fmt.Errorf("board %q: want the name of a folder of boards/", c.Board)
	}
	if _, err := release.ParseVersion(c.Release); err != nil {
		return nil, false, err
	}
	given, err := splitImage(image)
	if err != nil {
		return nil, false, fmt.Errorf("read image: %w", err)
	}
	rebuilt, err := c.rebuild(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("rebuild image: %w", err)
	}
	return compare(image, given, rebuilt)
}

func compare(image []byte, given map[string][]byte, rebuilt []byte) ([]Part, bool, error) {
	want, err := splitImage(rebuilt)
	if err != nil {
		return nil, false, fmt.Errorf("read rebuilt image: %w", err)
	}
	a, err := Authenticode(image)
	if err != nil {
		return nil, false, err
	}
	b, err := Authenticode(rebuilt)
	if err != nil {
		return nil, false, err
	}
	names := maps.Clone(given)
	maps.Copy(names, want)
	var parts []Part
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p := Part{Name: name, Image: digestOf(given, name), Source: digestOf(want, name)}
		if p.Same = p.Image == p.Source; !p.Same {
			p.Note = explain(name, given[name], want[name])
		}
		parts = append(parts, p)
	}
	whole := Part{Name: "all that a signature covers", Image: hex.EncodeToString(a[:]), Source: hex.EncodeToString(b[:]), Same: a == b}
	return append(parts, whole), a == b, nil
}

// digestOf is the SHA-256 of a part, "" when it is not there.
func digestOf(parts map[string][]byte, name string) string {
	data, there := parts[name]
	if !there {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// explain says in words what differs, where that is short.
func explain(name string, given, want []byte) string {
	switch name {
	case "headers":
		return "sizes and places of the sections; differs when another part has another size"
	case "command line", "os-release":
		return fmt.Sprintf("%.300q, rebuilt %.300q", given, want)
	case "initramfs: init":
		a, errA := buildinfo.Read(bytes.NewReader(given))
		b, errB := buildinfo.Read(bytes.NewReader(want))
		if errA == nil && errB == nil && a.GoVersion != b.GoVersion {
			return fmt.Sprintf("built by %s, rebuilt by %s", a.GoVersion, b.GoVersion)
		}
	}
	return fmt.Sprintf("%d bytes, rebuilt %d", len(given), len(want))
}

// rebuild makes the unsigned image.
func (c *VerifyConfig) rebuild(ctx context.Context) ([]byte, error) {
	program := c.Program
	if program.Package == "" {
		program.Package = "./firmware/cmd/phone"
	}
	var err error
	if program.Root, err = program.root(ctx); err != nil {
		return nil, err
	}
	if _, err := MachineOf(c.Board); err != nil {
		return nil, err
	}
	trust, err := c.trust()
	if err != nil {
		return nil, err
	}
	c.Progress.say("image: building %s", program.Package)
	init, err := BuildProgram(ctx, program)
	if err != nil {
		return nil, err
	}
	kernel, err := BuildKernel(ctx, KernelConfig{Fragments: Fragments(filepath.Join(program.Root, "boards", c.Board), c.Test),
		CacheDir: c.KernelCache, Rebuild: c.RebuildKernel, Progress: c.Progress})
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(kernel.Image)
	if err != nil {
		return nil, err
	}
	stub, err := FetchStub(ctx, "", c.Progress)
	if err != nil {
		return nil, err
	}
	return c.unsigned(materials{stub: stub, image: raw, init: init, trust: trust})
}

// splitImage takes an image apart. The signature is in none of the parts.
func splitImage(image []byte) (map[string][]byte, error) {
	bare, err := StripSignature(image)
	if err != nil {
		return nil, err
	}
	f, err := parsePE(bare)
	if err != nil {
		return nil, err
	}
	parts := map[string][]byte{"headers": bare[:f.u32(optSizeOfHeaders)]}
	names := map[string]string{".linux": "kernel", ".initrd": "initramfs", ".cmdline": "command line", ".osrel": "os-release"}
	for i := range f.sections {
		section, vsize, _, size, offset := f.section(i)
		name, known := names[section]
		if !known {
			name = "stub section " + section
		}
		if _, twice := parts[name]; twice {
			return nil, fmt.Errorf("image has section %s twice", section)
		}
		parts[name] = bare[offset : offset+min(vsize, size)]
	}
	// An archive that cannot be read differs as a whole; its files are named for
	// people only.
	_ = splitInitramfs(parts["initramfs"], parts)
	return parts, nil
}

// splitInitramfs adds the regular files of a cpio archive ("newc").
func splitInitramfs(raw []byte, into map[string][]byte) error {
	const header = 110
	for at := 0; ; {
		if len(raw)-at < header || string(raw[at:at+6]) != "070701" {
			return fmt.Errorf("initramfs: no cpio header at byte %d", at)
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(raw[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				return len(raw) // is refused below
			}
			return int(n)
		}
		mode, size, nameSize := field(1), field(6), field(11)
		data := (at + header + nameSize + 3) &^ 3
		if nameSize < 1 || data+size > len(raw) {
			return fmt.Errorf("initramfs: entry at byte %d is cut short", at)
		}
		name := string(raw[at+header : at+header+nameSize-1])
		if name == "TRAILER!!!" {
			return nil
		}
		if mode&cpioRegular == cpioRegular {
			into["initramfs: "+name] = raw[data : data+size]
		}
		at = (data + size + 3) &^ 3
	}
}

// StripSignature returns the image without its Authenticode signatures, with a
// checksum of zero. The signature table must be the last thing in the file, as
// signing tools leave it.
func StripSignature(image []byte) ([]byte, error) {
	out := bytes.Clone(image)
	f, err := parsePE(out)
	if err != nil {
		return nil, err
	}
	offset, size := f.u32(optCertificates), f.u32(optCertificates+4)
	f.setU32(optCheckSum, 0)
	if offset == 0 && size == 0 {
		return out, nil
	}
	if uint64(offset)+uint64(size) != uint64(len(out)) || offset < f.u32(optSizeOfHeaders) {
		return nil, fmt.Errorf("signature table of %d bytes at %d is not the end of the file of %d bytes", size, offset, len(out))
	}
	f.setU32(optCertificates, 0)
	f.setU32(optCertificates+4, 0)
	return out[:offset], nil
}
