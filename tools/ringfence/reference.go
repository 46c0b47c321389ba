package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/trust"
)

// newReferenceCommand is "ringfence reference ...".
func newReferenceCommand() *cobra.Command {
	group := &cobra.Command{Use: "reference", Short: "Releases that phones may run", Args: cobra.NoArgs}
	group.AddCommand(
		&cobra.Command{Use: "import FILE", Short: "Import the signed reference values of a release", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return importFile(cmd, "/v1/references", args[0], func(w io.Writer, i admin.Imported) {
					fmt.Fprintf(w, "phones of model %s may run release %s\n", i.Model, i.Release)
				})
			}},
		&cobra.Command{Use: "list", Short: "List the imported releases", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return query(cmd, http.MethodGet, "/v1/references", nil, func(w io.Writer, all []trust.Reference) {
					for _, r := range all {
						fmt.Fprintln(w, r.Model, r.Release, r.Manufacturer)
					}
				})
			}},
	)
	return group
}

// newTrustCommand is "ringfence trust ...": the manufacturers an owner trusts.
func newTrustCommand() *cobra.Command {
	group := &cobra.Command{Use: "trust", Short: "Manufacturers that this owner trusts", Args: cobra.NoArgs}
	var releaseKey string
	var anchors []string
	add := &cobra.Command{Use: "add NAME --release-key FILE --anchor FILE...", Short: "Trust a manufacturer's release key and device CAs", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m := trust.Manufacturer{Name: args[0]}
			var err error
			if m.ReleaseKey, err = readPEM(releaseKey, "PUBLIC KEY"); err != nil {
				return err
			}
			for _, path := range anchors {
				der, err := readPEM(path, "CERTIFICATE")
				if err != nil {
					return err
				}
				m.Anchors = append(m.Anchors, der)
			}
			body, err := json.Marshal(m)
			if err != nil {
				return err
			}
			return query(cmd, http.MethodPost, "/v1/manufacturers", body, func(w io.Writer, m trust.Manufacturer) {
				fmt.Fprintln(w, "trusting manufacturer", m.Name)
			})
		}}
	add.Flags().StringVar(&releaseKey, "release-key", "", "the manufacturer's release.pub (PEM)")
	add.Flags().StringArrayVar(&anchors, "anchor", nil, "the manufacturer's device-ca.pem; may be given again")
	group.AddCommand(add, &cobra.Command{Use: "list", Short: "List the trusted manufacturers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return query(cmd, http.MethodGet, "/v1/manufacturers", nil, func(w io.Writer, all []trust.Manufacturer) {
				for _, m := range all {
					fmt.Fprintf(w, "%s (%d anchors)\n", m.Name, len(m.Anchors))
				}
			})
		}})
	return group
}

func readPEM(path, kind string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: want a PEM block %q", path, kind)
	}
	return block.Bytes, nil
}

func importFile[T any](cmd *cobra.Command, endpoint, path string, show func(io.Writer, T)) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return query(cmd, http.MethodPost, endpoint, raw, show)
}
