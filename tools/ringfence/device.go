package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/fleet"
)

// newDeviceCommand is "ringfence device ...".
func newDeviceCommand() *cobra.Command {
	group := &cobra.Command{Use: "device", Short: "See and retire phones", Args: cobra.NoArgs}
	group.AddCommand(
		&cobra.Command{Use: "list", Short: "List every phone of the allow-list", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return query(cmd, http.MethodGet, "/v1/devices", nil, showDevices)
			}},
		&cobra.Command{Use: "show DEVICE", Short: "Show one phone, its last status and calls", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return query(cmd, http.MethodGet, "/v1/devices/"+url.PathEscape(args[0]), nil, showDevice)
			}},
		&cobra.Command{Use: "retire DEVICE", Short: "End a phone's life here, for good", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return query(cmd, http.MethodPost, "/v1/devices/"+url.PathEscape(args[0])+"/retire", nil, func(w io.Writer, _ struct{}) {
					fmt.Fprintln(w, args[0], "is retired")
				})
			}},
	)
	return group
}

// newStatusCommand is "ringfence status".
func newStatusCommand() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show how many phones are in which state", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return query(cmd, http.MethodGet, "/v1/status", nil, func(w io.Writer, s admin.Status) {
				for _, state := range slices.Sorted(maps.Keys(s.Devices)) {
					fmt.Fprintf(w, "%s\t%d\n", state, s.Devices[state])
				}
				fmt.Fprintf(w, "connected\t%d\n", len(s.Connected))
			})
		}}
}

func showDevices(w io.Writer, devices []admin.Device) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "DEVICE\tMODEL\tSTATE\tRELEASE\tUPDATE\tCONFIG\tCONNECTED\tREASON")
	for _, d := range devices {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%t\t%s\n", d.ID, d.Model, d.State, d.Release, updateText(d.Update), d.ConfigSeen, d.Connected, d.Reason)
	}
}

// updateText says what a phone last said of an update.
func updateText(u *fleet.Update) string {
	if u == nil {
		return "-"
	}
	return u.Release + " " + string(u.Phase)
}

func showDevice(w io.Writer, d admin.Device) {
	showDevices(w, []admin.Device{d})
	fmt.Fprintf(w, "manufacturer %s\nattestation key %s\nIDevID %s\n", d.Manufacturer, d.AK, d.IDevID)
	if !d.LastProof.IsZero() {
		fmt.Fprintf(w, "last proof %s\n", d.LastProof.Format(time.RFC3339))
	}
	if d.ConfigError != "" {
		fmt.Fprintf(w, "configuration refused: %s\n", d.ConfigError)
	}
	fmt.Fprintf(w, "calls %d\n", len(d.Calls))
}
