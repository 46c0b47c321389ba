package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ringfence/tools/image"
)

func newImageVerifyCommand() *cobra.Command {
	var path, provenance, releaseKey string
	var c image.VerifyConfig
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Rebuild an image from its sources and compare the two, part by part",
		Long: `Rebuild an image from its sources and compare the two, part by part. The image may be signed or not: signatures are
left out. Compilers and Debian's kernel source must be those of the build (sbom.spdx.json names them).
No private keys are needed. With --provenance it first checks that the manufacturer signed that document about this image. The exit status is 0 only if all that a Secure Boot signature covers is the same.`,
		Example: "  ringfence image verify --source . --image build/image/phone.efi --release 1.0.0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if provenance != "" {
				if err := checkProvenance(provenance, releaseKey, raw); err != nil {
					return err
				}
			}
			c.Progress = progress(cmd.ErrOrStderr())
			parts, same, err := image.Verify(cmd.Context(), c, raw)
			if err != nil {
				return err
			}
			err = show(cmd, parts, func(w io.Writer) {
				for _, p := range parts {
					verdict := "same"
					if !p.Same {
						verdict = "DIFFERS " + p.Note
					}
					fmt.Fprintf(w, "%-28s %-16.16s %-16.16s %s\n", p.Name, p.Image, p.Source, verdict)
				}
			})
			if !same {
				err = errors.Join(err, fmt.Errorf("%s is not what these sources give", path))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&path, "image", "", "image file, signed or unsigned")
	f.StringVar(&c.Board, "board", "virt64", "board, a folder of boards/")
	f.StringVar(&c.Program.Root, "source", "", "module root of the sources (default: found from the working directory)")
	f.StringVar(&c.Release, "release", "", "release number, major.minor.patch")
	f.BoolVar(&c.Test, "test", false, "it is a test image")
	f.StringVar(&c.CommandLineExtra, "cmdline-extra", "", "more kernel parameters that it was built with")
	f.StringVar(&c.Trust, "trust", "", "release trust (JSON) that it was built with")
	f.StringVar(&c.Program.Package, "package", "./firmware/cmd/phone", "Go package that is PID 1")
	f.StringVar(&c.Program.Tags, "tags", "", "Go build tags that it was built with")
	f.StringVar(&c.KernelCache, "kernel-cache", "", "kernel cache folder (default ${XDG_CACHE_HOME:-$HOME/.cache}/ringfence/kernel)")
	f.StringVar(&provenance, "provenance", "", "signed SLSA provenance of the image, checked too (needs --release-key)")
	f.StringVar(&releaseKey, "release-key", "", "the manufacturer's release.pub (PEM)")
	cmd.MarkFlagsRequiredTogether("provenance", "release-key")
	f.BoolVar(&c.RebuildKernel, "rebuild-kernel", false, "build the kernel too, instead of trusting the cache (3 minutes, 2.5 GB)")
	for _, name := range []string{"image", "release"} {
		_ = cmd.MarkFlagRequired(name) // errs only for a flag that does not exist
	}
	return cmd
}

// checkProvenance checks that the owner of the release key signed the document
// and that it is about this image.
func checkProvenance(file, releaseKey string, raw []byte) error {
	der, err := readPEM(releaseKey, "PUBLIC KEY")
	if err != nil {
		return err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return fmt.Errorf("parse %s: %w", releaseKey, err)
	}
	envelope, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = image.VerifyProvenance(envelope, key, raw)
	return err
}
