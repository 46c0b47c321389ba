package main

import "github.com/spf13/cobra"

// commands lists every command group, one constructor each.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newFactoryCommand(),
		newVoucherCommand(),
		newImageCommand(),
		newFlashCommand(),
		newManufacturerCommand(),
		newDeviceCommand(),
		newConfigCommand(),
		newReferenceCommand(),
		newTrustCommand(),
		newManifestCommand(),
		newAuditCommand(),
		newStatusCommand(),
	}
}
