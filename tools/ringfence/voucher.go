package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ringfence/tools/factory"
)

func newVoucherCommand() *cobra.Command {
	var manufacturer, manifest, owner string
	cmd := &cobra.Command{
		Use:   "voucher",
		Short: "Give all phones of a shipping manifest to an owner: writes their vouchers into the manifest",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			count, err := writeVouchers(manufacturer, manifest, owner)
			if err != nil {
				return err
			}
			return report(cmd, map[string]any{"vouchers": count, "manifest": manifest}, fmt.Sprintf("%d vouchers written to %s", count, manifest))
		},
	}
	cmd.Flags().StringVar(&manufacturer, "manufacturer", "", "manufacturer directory (ringfence manufacturer init)")
	cmd.Flags().StringVar(&manifest, "manifest", "manifest.json", "shipping manifest")
	cmd.Flags().StringVar(&owner, "owner-ca", "", "PEM file: the owner's CA certificate, which the phones will pin")
	for _, name := range []string{"manufacturer", "owner-ca"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // programmer error: no such flag
		}
	}
	return cmd
}

func writeVouchers(manufacturerDir, manifestPath, ownerPath string) (int, error) {
	manufacturer, err := factory.LoadManufacturer(manufacturerDir)
	if err != nil {
		return 0, err
	}
	owner, err := factory.LoadCertificates(ownerPath)
	if err != nil {
		return 0, fmt.Errorf("owner CA: %w", err)
	}
	m, err := factory.ReadManifest(manifestPath)
	if err != nil {
		return 0, err
	}
	for i, unit := range m.Units {
		if m.Units[i].Voucher, err = manufacturer.IssueVoucher(unit.Device, owner[0], time.Now()); err != nil {
			return 0, err
		}
	}
	return len(m.Units), factory.WriteManifest(manifestPath, m)
}
