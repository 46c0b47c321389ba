package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// report prints value as one line of JSON with --json, and text without.
func report(cmd *cobra.Command, value any, text string) error {
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(value)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}
