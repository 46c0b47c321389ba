package main

import "github.com/spf13/cobra"

// commands lists every command group, one constructor each: the
// manufacturer's first, then the operator's.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newManufacturerCommand(),
		newImageCommand(),
		newReleaseCommand(),
		newFlashCommand(),
		newFactoryCommand(),
		newVoucherCommand(),
		newLogCommand(),
		newWitnessCommand(),
		newTrustCommand(),
		newReferenceCommand(),
		newManifestCommand(),
		newDeviceCommand(),
		newRolloutCommand(),
		newConfigCommand(),
		newAuditCommand(),
		newStatusCommand(),
	}
}
