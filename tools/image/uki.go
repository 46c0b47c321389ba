package image

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Parts are what a UKI is made of.
type Parts struct {
	Stub        []byte // systemd's UEFI stub
	Kernel      []byte // arm64 Image
	Initramfs   []byte
	CommandLine string
	OSRelease   string
}

// ukiSections are the sections of a UKI in the order in which systemd-stub 252
// measures them (src/boot/efi/stub.c, unified_sections).
var ukiSections = [...]string{".linux", ".osrel", ".cmdline", ".initrd"}

// UKI joins the parts into an unsigned unified kernel image.
func UKI(p Parts) ([]byte, error) {
	if len(p.Kernel) < 64 || !bytes.Equal(p.Kernel[56:60], []byte("ARM\x64")) {
		return nil, errors.New("kernel is no arm64 Image")
	}
	if len(p.Initramfs) == 0 {
		return nil, errors.New("image without an initramfs")
	}
	if p.CommandLine == "" || strings.ContainsFunc(p.CommandLine, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, fmt.Errorf("command line %q: want printable ASCII", p.CommandLine)
	}
	return AppendSections(p.Stub, []Section{
		{".osrel", []byte(p.OSRelease)},
		{".cmdline", []byte(p.CommandLine + "\x00")},
		{".initrd", p.Initramfs},
		{".linux", p.Kernel},
	})
}

// OSRelease is the os-release text of a release (os-release(5)).
func OSRelease(board, release string) string {
	return fmt.Sprintf("ID=ringfence\nNAME=Ringfence\nVARIANT_ID=%s\nVERSION_ID=%s\n", board, release)
}

// CommandLine is the kernel command line of a product image; extra is for test
// images.
func CommandLine(board, release, extra string) string {
	line := "console=ttyAMA0 quiet panic=5 lockdown=confidentiality ima_policy=tcb ringfence.board=" + board + " ringfence.release=" + release
	return strings.TrimSpace(line + " " + extra)
}
