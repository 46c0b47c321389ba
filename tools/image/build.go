package image

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ringfence/provisioning/wire/release"
)

// Names of the files that [Build] leaves in its output folder.
const (
	FileSigned     = "phone.efi"
	FileUnsigned   = "phone.unsigned.efi"
	FileTree       = "phone.dtb"
	FileReference  = "reference.json"
	FileSBOM       = "sbom.spdx.json"
	FileProvenance = "provenance.intoto.json"
	FileVariables  = "vars.fd"
)

// BuildConfig says which image to build.
type BuildConfig struct {
	Program          Program      // zero value = ./firmware/cmd/phone for arm64
	Board            string       // folder of boards/; required
	Release          string       // major.minor.patch; required
	Manufacturer     Manufacturer // folder of keys; required
	Out              string       // output folder, made when absent; required
	Test             bool         // a test image: the kernel has simulated radios
	CommandLineExtra string       // more kernel parameters; makes a test image
	KernelCache      string       // "" = the user's cache
	Trust            string       // file of the release trust; "" = the phone takes no updates
	Progress         Progress     // nil = silent
}

// test reports whether the image may never ship.
func (c *BuildConfig) test() bool {
	return c.Test || c.CommandLineExtra != "" || c.Program.Tags != ""
}

func (c *BuildConfig) validate() error {
	if c.Board == "" || c.Manufacturer == "" || c.Out == "" {
		return errors.New("an image needs a board, a manufacturer's folder and an output folder")
	}
	if c.Board != filepath.Base(c.Board) {
		return fmt.Errorf("board %q: want the name of a folder of boards/", c.Board)
	}
	_, err := release.ParseVersion(c.Release)
	return err
}

// MachineOf returns the machine of a board.
func MachineOf(board string) (Machine, error) {
	if board == "virt64" {
		return Virt64(), nil
	}
	return Machine{}, fmt.Errorf("board %q is not known; known: virt64", board)
}

// materials are the inputs of one image.
type materials struct {
	machine  Machine
	certs    SecureBootCertificates
	firmware []byte
	kernel   *Kernel
	image    []byte // the kernel's
	stub     *Stub
	init     []byte
	trust    []byte
	tree     *Tree
}

// Build makes a board's signed image with all that belongs to it (see the
// File constants) in c.Out. All but signatures is equal for equal sources.
func Build(ctx context.Context, c BuildConfig) (*release.Reference, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	key, err := c.Manufacturer.ReleaseKey() // before the long work: a missing key shows at once
	if err != nil {
		return nil, err
	}
	in, err := c.gather(ctx)
	if err != nil {
		return nil, err
	}
	unsigned, err := c.unsigned(in)
	if err != nil {
		return nil, err
	}
	signed, err := SignImage(ctx, unsigned, c.Manufacturer)
	if err != nil {
		return nil, err
	}
	ref, err := Reference(Measured{Firmware: in.firmware, SecureBoot: in.certs, Signed: signed, Tree: in.tree.Kernel,
		Init: in.init, Board: c.Board, Release: c.Release})
	if err != nil {
		return nil, err
	}
	envelope, err := release.SignReference(ref, key)
	if err != nil {
		return nil, err
	}
	sbom, err := BillOfMaterials(Inventory{Board: c.Board, Release: c.Release, Unsigned: unsigned, Init: in.init,
		Kernel: *in.kernel, KernelImage: in.image, Stub: *in.stub})
	if err != nil {
		return nil, err
	}
	provenance, err := c.signedProvenance(ctx, in, key, map[string][]byte{FileSigned: signed, FileUnsigned: unsigned, FileTree: in.tree.Board})
	if err != nil {
		return nil, err
	}
	vars, err := VariableStore(in.certs)
	if err != nil {
		return nil, err
	}
	return ref, c.write(map[string][]byte{FileSigned: signed, FileUnsigned: unsigned, FileTree: in.tree.Board,
		FileReference: envelope, FileSBOM: sbom, FileProvenance: provenance, FileVariables: vars})
}

func (c *BuildConfig) signedProvenance(ctx context.Context, in materials, key crypto.Signer, subjects map[string][]byte) ([]byte, error) {
	statement, err := c.provenance(ctx, in, subjects)
	if err != nil {
		return nil, err
	}
	return SignProvenance(statement, key)
}

// unsigned joins the inputs into the image before its signature.
func (c *BuildConfig) unsigned(in materials) ([]byte, error) {
	osRelease := OSRelease(c.Board, c.Release)
	if c.test() {
		osRelease += "VARIANT=test\n"
	}
	return UKI(Parts{Stub: in.stub.Data, Kernel: in.image, Initramfs: Initramfs(in.init, in.trust),
		CommandLine: CommandLine(c.Board, c.Release, c.CommandLineExtra), OSRelease: osRelease})
}

// trust reads and checks the release trust.
func (c *BuildConfig) trust() ([]byte, error) {
	if c.Trust == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(c.Trust)
	if err != nil {
		return nil, err
	}
	_, err = release.ParseTrust(raw)
	return raw, err
}

// gather builds or fetches every input.
func (c *BuildConfig) gather(ctx context.Context) (in materials, err error) {
	program := c.Program
	if program.Package == "" {
		program.Package = "./firmware/cmd/phone"
	}
	if program.Root, err = program.root(ctx); err != nil {
		return in, err
	}
	board := filepath.Join(program.Root, "boards", c.Board)
	if in.machine, err = MachineOf(c.Board); err != nil {
		return in, err
	}
	if in.certs, err = c.Manufacturer.SecureBoot(); err != nil {
		return in, err
	}
	if in.firmware, err = readFirmware(); err != nil {
		return in, err
	}
	if in.trust, err = c.trust(); err != nil {
		return in, err
	}
	c.Progress.say("image: building %s", program.Package)
	if in.init, err = BuildProgram(ctx, program); err != nil {
		return in, err
	}
	in.kernel, err = BuildKernel(ctx, KernelConfig{Fragments: Fragments(board, c.Test), CacheDir: c.KernelCache, Progress: c.Progress})
	if err != nil {
		return in, err
	}
	if in.image, err = os.ReadFile(in.kernel.Image); err != nil {
		return in, err
	}
	if in.stub, err = FetchStub(ctx, "", c.Progress); err != nil {
		return in, err
	}
	c.Progress.say("image: device tree")
	in.tree, err = DeviceTree(ctx, in.machine, board)
	return in, err
}

func (c *BuildConfig) write(files map[string][]byte) error {
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return err
	}
	for name, data := range files {
		if err := writeAtomic(filepath.Join(c.Out, name), data, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	c.Progress.say("image: %s written", filepath.Join(c.Out, FileSigned))
	return nil
}
