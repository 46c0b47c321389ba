package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/audit"
)

// newAuditCommand is "ringfence audit ...".
func newAuditCommand() *cobra.Command {
	group := &cobra.Command{Use: "audit", Short: "The append-only list of events", Args: cobra.NoArgs}
	var lines int
	tail := &cobra.Command{Use: "tail", Short: "Show the newest events", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return query(cmd, http.MethodGet, fmt.Sprintf("/v1/audit?limit=%d", max(lines, 1)), nil, func(w io.Writer, events []audit.Event) {
				for _, e := range events {
					fmt.Fprintf(w, "%d %s %s %s %s %s\n", e.Seq, e.Time.Format(time.RFC3339), e.Actor, e.Name, e.Subject, e.Detail)
				}
			})
		}}
	tail.Flags().IntVarP(&lines, "lines", "n", 50, "how many, up to 1000")
	group.AddCommand(tail, &cobra.Command{Use: "verify", Short: "Check that no event was changed, removed or added", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var result admin.Verified
			err := query(cmd, http.MethodGet, "/v1/audit/verify", nil, func(w io.Writer, v admin.Verified) {
				result = v
				fmt.Fprintf(w, "%d events, head %s\n", v.Head.Seq, v.Head.Hash)
			})
			if err == nil && result.Error != "" {
				return errors.New(result.Error)
			}
			return err
		}})
	return group
}
