package lab

import (
	"bytes"
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
	unsigned, err := os.ReadFile(built.Unsigned())
	if err != nil {
		return err
	}
	altered, err := image.Alter(bytes.Clone(unsigned), component)
	if err != nil {
		return fmt.Errorf("tamper with %s: %w", built.Unsigned(), err)
	}
	var tampered []byte
	if resign {
		tampered, err = image.SignImage(ctx, altered, image.Manufacturer(m.Dir))
	} else {
		tampered, err = underOldSignature(built.UKI(), unsigned, altered)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(out, tampered, 0o644)
}

// underOldSignature makes in the signed image the change between unsigned and
// altered. Signing only appends to an image and sets header fields.
func underOldSignature(signed string, unsigned, altered []byte) ([]byte, error) {
	raw, err := os.ReadFile(signed)
	if err != nil {
		return nil, err
	}
	changes := 0
	for i := range unsigned {
		if unsigned[i] != altered[i] {
			raw[i] = altered[i]
			changes++
		}
	}
	if changes != 1 {
		return nil, fmt.Errorf("altering changed %d bytes, want 1", changes)
	}
	return raw, nil
}

// Reflash replaces the image in slot A of the phone's disk, as somebody with
// the disk in hand would. The phone must be off.
func (p *Phone) Reflash(_ context.Context, path string) error {
	return p.ReflashSlot(image.SlotA, path)
}

// ReflashSlot is Reflash for either slot.
func (p *Phone) ReflashSlot(slot image.Slot, path string) error {
	if p.Machine != nil {
		return fmt.Errorf("phone %s is on", p.Name)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return image.Reflash(p.Disk(), slot, raw)
}

// CopyDisk copies a disk image, keeping its holes.
func CopyDisk(dst, src string) error {
	_, err := Run(context.Background(), "cp", "--sparse=always", src, dst)
	return err
}
