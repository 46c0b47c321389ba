// Command demo shows the whole life of two phones: built, flashed, given an
// identity, enrolled, configured, registered and heard by each other over an
// encrypted call; then three attempts that must be refused. It runs inside the
// namespace that scripts/demo makes, leaves build/demo/summary.json and the
// recordings, and exits with status 0 only if every row passed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func main() {
	klog.SetLogger(logr.Discard()) // of the release log's storage; what matters of it is in our errors
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// wholeDemo bounds the demo when no kernel is cached.
const wholeDemo = 40 * time.Minute

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	keep := flags.Bool("keep", false, "leave everything running at the end and print the addresses")
	board := flags.String("board", "virt64", "board of both phones")
	root := flags.String("root", ".", "the repository")
	if err := flags.Parse(args); err != nil {
		return err
	}
	base, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	out := filepath.Join(base, "build", "demo")
	if err := freshDir(out); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, wholeDemo)
	defer cancel()
	d := &demo{rows: newRows(os.Stdout), root: base, out: out, board: *board}
	defer d.close()
	d.play(bounded)
	if err := d.rows.write(out); err != nil {
		return err
	}
	ok := d.rows.table()
	d.farewell(ok)
	if *keep && d.world != nil {
		d.printAddresses()
		<-ctx.Done()
	}
	if !ok {
		return errors.New("not every row passed; logs are in build/demo/lab")
	}
	return nil
}

// freshDir empties build/demo, so that nothing of an earlier run can pass for
// a result of this one.
func freshDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}
