package main

import (
	"encoding/json"
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
			show := func(w io.Writer, raw json.RawMessage) {
				if json.Unmarshal(raw, &result) != nil {
					result.Error = "the service's answer cannot be read"
				}
				if cmd.Flag("json").Value.String() == "true" {
					fmt.Fprintln(w, string(raw))
					return
				}
				fmt.Fprintf(w, "%d events, head %s\n", result.Head.Seq, result.Head.Hash)
			}
			if err := ask(cmd, http.MethodGet, "/v1/audit/verify", nil, show); err != nil {
				return err
			}
			if !result.OK {
				return errors.New(result.Error)
			}
			return nil
		}})
	return group
}
