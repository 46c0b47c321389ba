// Command tufclient drives the phone's update client by the command protocol
// of the public TUF conformance suite (theupdateframework/tuf-conformance,
// CLIENT-CLI.md): init, refresh and download. It keeps no policy of its own
// and is not an update tool.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ringfence/firmware/update/tuf"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "tufclient:", err)
		os.Exit(1)
	}
}

// options are the flags; the suite puts them before or after the command.
type options struct {
	metadataDir, metadataURL, targetName, targetBaseURL, targetDir string
}

func newRoot() *cobra.Command {
	o := new(options)
	root := &cobra.Command{Use: "tufclient", Short: "The phone's TUF client, for the conformance suite", SilenceUsage: true, SilenceErrors: true}
	f := root.PersistentFlags()
	f.StringVar(&o.metadataDir, "metadata-dir", "", "folder of trusted metadata")
	f.StringVar(&o.metadataURL, "metadata-url", "", "address of the repository's metadata")
	f.StringVar(&o.targetName, "target-name", "", "path of the target")
	f.StringVar(&o.targetBaseURL, "target-base-url", "", "address of the repository's targets")
	f.StringVar(&o.targetDir, "target-dir", "", "folder for downloaded targets")
	root.AddCommand(
		&cobra.Command{Use: "init TRUSTED-ROOT", Short: "Trust a root", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return o.init(args[0]) }},
		&cobra.Command{Use: "refresh", Short: "Update the top-level metadata", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return o.refresh(cmd.Context()) }},
		&cobra.Command{Use: "download", Short: "Download a target", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return o.download(cmd.Context()) }},
	)
	return root
}

func (o *options) init(trusted string) error {
	raw, err := os.ReadFile(trusted)
	if err != nil {
		return err
	}
	if o.metadataDir == "" {
		return errors.New("--metadata-dir is missing")
	}
	if err := os.MkdirAll(o.metadataDir, 0o755); err != nil {
		return err
	}
	return tuf.Dir(o.metadataDir).Save("root.json", raw)
}

// client is the phone's client. Its trusted root is the newest that the folder
// has, where a phone has the root of its image.
func (o *options) client() (*tuf.Client, error) {
	if o.metadataDir == "" || o.metadataURL == "" {
		return nil, errors.New("--metadata-dir or --metadata-url is missing")
	}
	root, err := tuf.Dir(o.metadataDir).Load("root.json")
	if err != nil {
		return nil, fmt.Errorf("no trusted root, run init first: %w", err)
	}
	offset, err := fakeTime(os.Getenv("FAKETIME"), time.Now())
	if err != nil {
		return nil, err
	}
	targets := o.targetBaseURL
	if targets == "" {
		targets = o.metadataURL // refresh alone reads no target
	}
	return tuf.New(tuf.Config{
		Root: root, Store: tuf.Dir(o.metadataDir), MetadataURL: o.metadataURL, TargetsURL: targets,
		HTTP:  &http.Client{Timeout: time.Minute},
		Clock: func() (time.Time, bool) { return time.Now().Add(offset), true },
	})
}

func (o *options) refresh(ctx context.Context) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	return c.Refresh(ctx)
}

func (o *options) download(ctx context.Context) error {
	if o.targetName == "" || o.targetBaseURL == "" || o.targetDir == "" {
		return errors.New("--target-name, --target-base-url or --target-dir is missing")
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	if err := c.Refresh(ctx); err != nil {
		return err
	}
	target, err := c.Target(ctx, o.targetName)
	if err != nil {
		return err
	}
	final := filepath.Join(o.targetDir, url.PathEscape(o.targetName))
	if have, err := os.Open(final); err == nil {
		err = target.Verify(have)
		have.Close()
		if err == nil {
			return nil // downloaded before, and still what the metadata says
		}
	}
	return fetch(ctx, c, target, o.targetDir, final)
}

// fetch downloads beside the final place, where nobody takes it for verified.
func fetch(ctx context.Context, c *tuf.Client, target *tuf.Target, dir, final string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".part-")
	if err != nil {
		return err
	}
	err = errors.Join(c.Download(ctx, target, f, nil), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), final)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
