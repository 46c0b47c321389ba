package lab

import (
	"context"
	"os"
	"path/filepath"
)

// Tools are the programs of this repository that the lab runs, as an operator
// or a manufacturer would.
type Tools struct {
	Ringfence  string
	Provisiond string
}

// BuildTools compiles the programs into dir. root is the repository.
func BuildTools(ctx context.Context, root, dir string) (Tools, error) {
	t := Tools{Ringfence: filepath.Join(dir, "ringfence"), Provisiond: filepath.Join(dir, "provisiond")}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return t, err
	}
	_, err := Run(ctx, "go", "build", "-C", root, "-trimpath", "-o", dir+string(filepath.Separator),
		"./tools/ringfence", "./provisioning/cmd/provisiond")
	return t, err
}

// Manufacturer is a directory of keys with the tools to use them.
type Manufacturer struct {
	Tools Tools
	Root  string // the repository
	Dir   string
}

// MakerName is the manufacturer's name in certificates and manifests.
const MakerName = "Lab Phones"

// NewManufacturer makes the keys.
func NewManufacturer(ctx context.Context, tools Tools, root, dir string) (*Manufacturer, error) {
	if _, err := Run(ctx, tools.Ringfence, "manufacturer", "init", dir, "--name", MakerName); err != nil {
		return nil, err
	}
	return &Manufacturer{Tools: tools, Root: root, Dir: dir}, nil
}

// Image is what `ringfence image build` leaves.
type Image struct{ Dir string }

// UKI is the signed image, Vars the UEFI variables with the manufacturer's
// keys, Reference the signed reference values, DTB the board's device tree.
func (i Image) UKI() string       { return filepath.Join(i.Dir, "phone.efi") }
func (i Image) Unsigned() string  { return filepath.Join(i.Dir, "phone.unsigned.efi") }
func (i Image) Vars() string      { return filepath.Join(i.Dir, "vars.fd") }
func (i Image) Reference() string { return filepath.Join(i.Dir, "reference.json") }
func (i Image) DTB() string       { return filepath.Join(i.Dir, "phone.dtb") }

// BuildImage builds a release for board into dir; extra are further flags.
func (m *Manufacturer) BuildImage(ctx context.Context, board, release, dir string, extra ...string) (Image, error) {
	args := append([]string{m.Tools.Ringfence, "image", "build", "--board", board, "--release", release,
		"--manufacturer", m.Dir, "--source", m.Root, "--out", dir}, extra...)
	_, err := Run(ctx, args...)
	return Image{dir}, err
}

// Flash writes a phone's disk.
func (m *Manufacturer) Flash(ctx context.Context, image, disk string) error {
	_, err := Run(ctx, m.Tools.Ringfence, "flash", "--image", image, "--out", disk)
	return err
}

// Enroll is the factory step on a phone whose factory line is at port.
func (m *Manufacturer) Enroll(ctx context.Context, port, ekRoots, device, manifest string) error {
	_, err := Run(ctx, m.Tools.Ringfence, "factory", "enroll", "--port", port, "--manufacturer", m.Dir,
		"--ek-roots", ekRoots, "--device", device, "--manifest", manifest)
	return err
}

// Vouchers adds the buyer's vouchers to the manifest.
func (m *Manufacturer) Vouchers(ctx context.Context, manifest, ownerCA string) error {
	_, err := Run(ctx, m.Tools.Ringfence, "voucher", "--manufacturer", m.Dir, "--manifest", manifest, "--owner-ca", ownerCA)
	return err
}
