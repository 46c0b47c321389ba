package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ringfence/tools/image"
)

func newImageBuildCommand() *cobra.Command {
	var manufacturer string
	var c image.BuildConfig
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build a board's signed image, its reference values and its bill of materials",
		Long: `Build a board's image. The output folder receives phone.efi (signed), phone.unsigned.efi (reproducible),
phone.dtb (device tree), reference.json (signed reference values), sbom.spdx.json, provenance.intoto.json (signed SLSA
provenance) and vars.fd (UEFI variables).`,
		Example: "  ringfence image build --board virt64 --release 1.0.0 --manufacturer keys --out build/image",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Manufacturer = image.Manufacturer(manufacturer)
			c.Progress = progress(cmd.ErrOrStderr())
			ref, err := image.Build(cmd.Context(), c)
			if err != nil {
				return err
			}
			return report(cmd, ref, fmt.Sprintf("%s  %s %s %s", ref.Image, ref.Model, ref.Release, filepath.Join(c.Out, image.FileSigned)))
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Board, "board", "virt64", "board, a folder of boards/")
	f.StringVar(&c.Program.Root, "source", "", "module root of the sources (default: found from the working directory)")
	f.StringVar(&c.Release, "release", "", "release number, major.minor.patch")
	f.StringVar(&manufacturer, "manufacturer", "", "folder of the manufacturer's keys")
	f.StringVar(&c.Out, "out", "", "output folder")
	f.BoolVar(&c.Test, "test", false, "test image: a kernel with simulated radios; never for a product")
	f.StringVar(&c.CommandLineExtra, "cmdline-extra", "", "more kernel parameters; makes a test image")
	f.StringVar(&c.Trust, "trust", "", "release trust (JSON) that the phone updates by; without it the phone takes no updates")
	f.StringVar(&c.Program.Package, "package", "./firmware/cmd/phone", "Go package that becomes PID 1")
	f.StringVar(&c.Program.Tags, "tags", "", "Go build tags; makes a test image")
	f.StringVar(&c.KernelCache, "kernel-cache", "", "kernel cache folder (default ${XDG_CACHE_HOME:-$HOME/.cache}/ringfence/kernel)")
	for _, name := range []string{"release", "manufacturer", "out"} {
		_ = cmd.MarkFlagRequired(name) // errs only for a flag that does not exist
	}
	return cmd
}

func newFlashCommand() *cobra.Command {
	var slotA, slotB, out string
	cmd := &cobra.Command{
		Use:     "flash",
		Short:   "Write a phone's disk: boot partition with the image, state partition",
		Example: "  ringfence flash --image build/image/phone.efi --out disk.img",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := os.ReadFile(slotA)
			if err != nil {
				return err
			}
			var b []byte
			if slotB != "" {
				if b, err = os.ReadFile(slotB); err != nil {
					return err
				}
			}
			if err := image.FlashDisk(cmd.Context(), out, a, b); err != nil {
				return err
			}
			return report(cmd, map[string]string{"disk": out, "slot_a": slotA, "slot_b": slotB}, out+" is ready to boot "+slotA)
		},
	}
	cmd.Flags().StringVar(&slotA, "image", "", "signed image for slot A")
	cmd.Flags().StringVar(&slotB, "image-b", "", "signed image for slot B (default none)")
	cmd.Flags().StringVar(&out, "out", "", "disk image file to write; an existing one is replaced")
	for _, name := range []string{"image", "out"} {
		_ = cmd.MarkFlagRequired(name) // errs only for a flag that does not exist
	}
	return cmd
}

func newManufacturerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "manufacturer", Short: "Keys of a phone manufacturer"}
	var name string
	init := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a folder of new manufacturer keys for a laboratory",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := image.InitManufacturer(args[0], name, time.Now()); err != nil {
				return err
			}
			return report(cmd, map[string]string{"name": name, "directory": args[0]}, fmt.Sprintf("keys of %s are in %s", name, args[0]))
		},
	}
	init.Flags().StringVar(&name, "name", "Ringfence Lab", "manufacturer's name in certificates")
	cmd.AddCommand(init)
	return cmd
}
