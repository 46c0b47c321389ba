package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"

	"ringfence/provisioning/translog"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/release"
)

// newLogCommand is "ringfence log ...": the release log that everyone can see.
func newLogCommand() *cobra.Command {
	group := &cobra.Command{Use: "log", Short: "The append-only log of published releases", Args: cobra.NoArgs}
	group.AddCommand(newLogInitCommand(), newLogShowCommand(), newLogServeCommand(), newLogMonitorCommand(), newLogVerifyCommand())
	return group
}

func newLogInitCommand() *cobra.Command {
	var origin string
	var witnesses []string
	var quorum int
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a new release log",
		Long: `Make the folder of a new release log: its key and the witnesses that must sign its checkpoints.
It prints the log's verifier key, which witnesses (witness run --log) and phones must know.`,
		Example: "  ringfence log init log --origin log.example/releases --witness 'KEY,https://witness.example/w1' --quorum 1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []translog.Witness
			for _, text := range witnesses {
				key, url, ok := strings.Cut(text, ",")
				if !ok {
					return fmt.Errorf("witness %q: want KEY,URL; ringfence witness init prints the key", text)
				}
				list = append(list, translog.Witness{Key: key, URL: url})
			}
			key, err := translog.Init(args[0], origin, list, quorum)
			if err != nil {
				return err
			}
			return show(cmd, map[string]string{"key": key}, func(w io.Writer) { fmt.Fprintln(w, key) })
		},
	}
	cmd.Flags().StringVar(&origin, "origin", "", "name of the log, a URL without scheme")
	cmd.Flags().StringArrayVar(&witnesses, "witness", nil, "verifier key and address of a witness, KEY,URL; may be given again")
	cmd.Flags().IntVar(&quorum, "quorum", 1, "how many witnesses must sign")
	for _, name := range []string{"origin", "witness"} {
		_ = cmd.MarkFlagRequired(name) // errs only for a flag that does not exist
	}
	return cmd
}

// show prints data as JSON or for people.
func show(cmd *cobra.Command, data any, print func(io.Writer)) error {
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(data)
	}
	print(cmd.OutOrStdout())
	return nil
}

func newLogShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show DIR",
		Short: "Print the log and witness keys and the quorum, as --trust of the other commands wants them",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := translog.Load(args[0])
			if err != nil {
				return err
			}
			t := release.Trust{Root: json.RawMessage("null"), Quorum: c.Quorum}
			if t.Log, err = c.Key.LogKey(); err != nil {
				return err
			}
			for _, w := range c.Witnesses {
				t.Witnesses = append(t.Witnesses, w.Key)
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(t)
		},
	}
}

func newLogServeCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "serve DIR",
		Short: "Serve the public part of a log to everyone, read only",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := os.OpenRoot(translog.Tiles(args[0]))
			if err != nil {
				return fmt.Errorf("open log (has a release been published?): %w", err)
			}
			defer root.Close()
			return serveHTTP(cmd, listen, translog.Handler(root))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8450", "address and port")
	return cmd
}

// serveHTTP serves until the command is interrupted. TLS is the business of a
// proxy before it: what is served is signed.
func serveHTTP(cmd *cobra.Command, listen string, h http.Handler) error {
	s := &http.Server{Addr: listen, Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() { ended <- s.ListenAndServe() }()
	fmt.Fprintln(cmd.ErrOrStderr(), "listening on", listen)
	select {
	case err := <-ended:
		return err
	case <-cmd.Context().Done():
		err := s.Close()
		<-ended
		return err
	}
}

// readLogTrust reads log key, witness keys and quorum. A TUF root in it is not
// looked at here.
func readLogTrust(path string) (*release.Trust, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t := new(release.Trust)
	if err := wire.DecodeStrict(raw, release.MaxTrust, t); err != nil {
		return nil, fmt.Errorf("read trust %s: %w", path, err)
	}
	return t, t.CheckWitnesses()
}

func newLogMonitorCommand() *cobra.Command {
	var trustFile, stateFile string
	cmd := &cobra.Command{
		Use:   "monitor URL|DIR",
		Short: "Read a whole log, check it against the last time, and list what is new",
		Long: `Read a whole log, recompute its tree, check its signatures and witnesses and that it still holds all it held
the last time (--state), and list the new releases. The exit status is not 0 when the log forked or holds
one name with two contents.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := readLogTrust(trustFile)
			if err != nil {
				return err
			}
			last, err := readHead(stateFile)
			if err != nil {
				return err
			}
			from, err := translog.NewSource(args[0], &http.Client{Timeout: 30 * time.Second})
			if err != nil {
				return err
			}
			f, err := translog.Monitor(cmd.Context(), from, trust, last)
			if err != nil {
				return err
			}
			err = show(cmd, f, func(w io.Writer) {
				for _, leaf := range f.New {
					fmt.Fprintf(w, "%d %s %s %s sequence=%d\n", leaf.Index, leaf.Entry.SHA256, leaf.Entry.Release, leaf.Entry.Target, leaf.Entry.Sequence)
				}
				fmt.Fprintf(w, "%d leaves, root %s\n", f.Head.N, f.Head.Hash)
			})
			if len(f.Alarms) > 0 {
				return errors.New(strings.Join(f.Alarms, "; "))
			}
			return errors.Join(err, writeHead(stateFile, f.Head))
		},
	}
	cmd.Flags().StringVar(&trustFile, "trust", "", "log key, witnesses and quorum (ringfence log show)")
	cmd.Flags().StringVar(&stateFile, "state", "", "file that remembers the last tree head (default none)")
	_ = cmd.MarkFlagRequired("trust") // errs only for a flag that does not exist
	return cmd
}

func readHead(path string) (head tlog.Tree, err error) {
	if path == "" {
		return head, nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return head, nil
	}
	if err == nil {
		err = wire.DecodeStrict(raw, 4<<10, &head)
	}
	if err != nil {
		return head, fmt.Errorf("read state of the monitor: %w", err)
	}
	return head, nil
}

func writeHead(path string, head tlog.Tree) error {
	if path == "" {
		return nil
	}
	raw, err := json.Marshal(head)
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
