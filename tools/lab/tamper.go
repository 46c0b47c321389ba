package lab

import (
	"bytes"
	"context"
	"debug/pe"
	"fmt"
	"os"
	"path/filepath"
)

// Tampering is one harmless change of one byte: the image still boots, so that
// it is the measurement that tells and not a crash.
type tampering struct {
	section string
	anchor  string // text in the section
	offset  int    // from the anchor's start to the byte that changes
	value   byte
}

func tamperings() map[string]tampering {
	return map[string]tampering{
		// The build host in the kernel's banner "Linux version 6.1.N (user@host)".
		"kernel": {".linux", "Linux version ", len("Linux version 6"), '-'},
		// The modification time of the first file in the cpio archive (newc:
		// 6 bytes of magic, then fields of 8 digits; mtime is the sixth).
		"initramfs": {".initrd", "070701", 6 + 5*8 + 7, '1'},
		// "quiet" becomes an option that the kernel does not know.
		"command line": {".cmdline", "quiet", 4, 'z'},
	}
}

// Tamper writes a copy of image to out with one byte of a component changed:
// "kernel", "initramfs" or "command line". With resign the result is signed
// with the manufacturer's db key, otherwise the old signature stays on it.
func (m *Manufacturer) Tamper(ctx context.Context, image Image, component, out string, resign bool) error {
	source := image.UKI()
	if resign {
		source = image.Unsigned()
	}
	raw, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if err := changeByte(raw, component); err != nil {
		return fmt.Errorf("tamper with %s: %w", source, err)
	}
	if !resign {
		return os.WriteFile(out, raw, 0o644)
	}
	unsigned := out + ".unsigned"
	if err := os.WriteFile(unsigned, raw, 0o644); err != nil {
		return err
	}
	_, err = Run(ctx, "sbsign", "--key", filepath.Join(m.Dir, "secureboot", "db.key"),
		"--cert", filepath.Join(m.Dir, "secureboot", "db.crt"), "--output", out, unsigned)
	return err
}

func changeByte(raw []byte, component string) error {
	t, ok := tamperings()[component]
	if !ok {
		return fmt.Errorf("no component %q", component)
	}
	file, err := pe.NewFile(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	section := file.Section(t.section)
	if section == nil {
		return fmt.Errorf("no section %s", t.section)
	}
	body := raw[section.Offset : section.Offset+section.VirtualSize]
	at := bytes.Index(body, []byte(t.anchor))
	if at < 0 || body[at+t.offset] == t.value {
		return fmt.Errorf("section %s has no %q to change", t.section, t.anchor)
	}
	body[at+t.offset] = t.value
	return nil
}

// Reflash replaces the image in slot A of the phone's disk, as somebody with
// the disk in hand would. The phone must be off.
func (p *Phone) Reflash(ctx context.Context, image string) error {
	if p.Machine != nil {
		return fmt.Errorf("phone %s is on", p.Name)
	}
	_, err := Run(ctx, "mcopy", "-o", "-i", p.Disk()+"@@1M", image, "::EFI/phone/a.efi")
	return err
}

// CopyDisk copies a disk image, keeping its holes.
func CopyDisk(dst, src string) error {
	_, err := Run(context.Background(), "cp", "--sparse=always", src, dst)
	return err
}
