package lab

import (
	"context"
	"fmt"
	"os"

	"ringfence/tools/image"
)

// Tamper writes a copy of an image to out with one bit of a component
// changed: "kernel", "initramfs" or "command line". With resign the result is
// signed with the manufacturer's db key, as a thief of it would; otherwise the
// old signature stays on it.
func (m *Manufacturer) Tamper(ctx context.Context, built Image, component, out string, resign bool) error {
	source := built.UKI()
	if resign {
		source = built.Unsigned()
	}
	raw, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if raw, err = image.Alter(raw, component); err != nil {
		return fmt.Errorf("tamper with %s: %w", source, err)
	}
	if resign {
		if raw, err = image.SignImage(ctx, raw, image.Manufacturer(m.Dir)); err != nil {
			return err
		}
	}
	return os.WriteFile(out, raw, 0o644)
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
