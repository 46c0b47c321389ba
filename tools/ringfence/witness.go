package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ringfence/provisioning/translog/notekey"
	"ringfence/provisioning/translog/witness"
)

// Files of a witness's folder.
const (
	witnessKey   = "witness.key"
	witnessState = "state.json"
)

// newWitnessCommand is "ringfence witness ...": somebody else's eye on a log.
func newWitnessCommand() *cobra.Command {
	group := &cobra.Command{Use: "witness", Short: "Cosign a release log, so that it cannot show two histories", Args: cobra.NoArgs}
	group.AddCommand(newWitnessInitCommand(), newWitnessRunCommand())
	return group
}

func newWitnessInitCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make key and memory of a new witness",
		Long:  "Make key and memory of a new witness, and print its verifier key. The owner of the log must not have access to it.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := notekey.Generate(name)
			if err != nil {
				return err
			}
			vkey, err := key.WitnessKey()
			if err != nil {
				return err
			}
			if err := key.Write(filepath.Join(args[0], witnessKey)); err != nil {
				return err
			}
			if err := witness.InitState(filepath.Join(args[0], witnessState)); err != nil {
				return err
			}
			return show(cmd, map[string]string{"key": vkey}, func(w io.Writer) { fmt.Fprintln(w, vkey) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the witness, a URL without scheme")
	_ = cmd.MarkFlagRequired("name") // errs only for a flag that does not exist
	return cmd
}

func newWitnessRunCommand() *cobra.Command {
	var listen string
	var logs []string
	cmd := &cobra.Command{
		Use:   "run DIR",
		Short: "Answer add-checkpoint requests (C2SP tlog-witness) until interrupted",
		Long: `Answer add-checkpoint requests (C2SP tlog-witness) until interrupted. A witness whose state file is lost does not
start: it would sign a fork. Give it a new key and name then.`,
		Example: "  ringfence witness run w1 --log 'log.example/releases+e4ca1d2f+AZ...' --listen 127.0.0.1:8451",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := notekey.Read(filepath.Join(args[0], witnessKey))
			if err != nil {
				return err
			}
			w, err := witness.New(witness.Config{Key: key, Logs: logs, State: filepath.Join(args[0], witnessState),
				Now: time.Now, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
			if err != nil {
				return err
			}
			defer w.Close()
			return serveHTTP(cmd, listen, w.Handler())
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8451", "address and port")
	cmd.Flags().StringArrayVar(&logs, "log", nil, "verifier key of a log to witness; may be given again")
	_ = cmd.MarkFlagRequired("log") // errs only for a flag that does not exist
	return cmd
}
