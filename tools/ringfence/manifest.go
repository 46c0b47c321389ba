package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ringfence/provisioning/admin"
)

// newManifestCommand is "ringfence manifest ...".
func newManifestCommand() *cobra.Command {
	group := &cobra.Command{Use: "manifest", Short: "Shipping manifests: the only way onto the allow-list", Args: cobra.NoArgs}
	group.AddCommand(&cobra.Command{Use: "import FILE", Short: "Put the phones of a shipping manifest on the allow-list", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return importFile(cmd, "/v1/manifests", args[0], func(w io.Writer, i admin.Imported) {
				origin := "you vouched for it: it carries no signature"
				if i.Signed {
					origin = "signed by the manufacturer"
				}
				fmt.Fprintf(w, "%d phones on the allow-list (%s)\n", i.Units, origin)
			})
		}})
	return group
}
