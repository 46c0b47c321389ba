// Command fleetsim connects thousands of simulated phones to a provisioning
// service over mutual TLS 1.3: they enrol by EST, answer challenges with quotes
// of a software TPM, and take updates well or badly as a seed says. The service
// is unmodified: the owner trusts a manufacturer of simulated phones, made for
// the run. It is no client for real phones and no attack tool.
//
//	fleetsim --admin site/admin.json --count 1000 --silent 2 --seed 1
//
// Protocols: RFC 7030, package wire.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fleetsim:", err)
		os.Exit(1)
	}
}

type options struct {
	admin, server, name, releases string
	count                         int
	dice                          dice
	reboot                        time.Duration
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	flags := flag.NewFlagSet("fleetsim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.admin, "admin", os.Getenv("RINGFENCE_ADMIN"), "admin `profile` of the provisioning service")
	flags.StringVar(&o.server, "server", "localhost:8443", "`address` of the service for phones")
	flags.StringVar(&o.name, "name", "localhost", "`host` name in the service's certificate")
	flags.StringVar(&o.releases, "releases", "1.0.0,1.1.0", "`releases` whose reference values are imported; phones run the first")
	flags.IntVar(&o.count, "count", 1000, "phones")
	flags.Float64Var(&o.dice.silent, "silent", 0, "`percent` of phones that go silent in an update")
	flags.Float64Var(&o.dice.reverted, "reverted", 0, "`percent` of phones that revert")
	flags.Float64Var(&o.dice.refused, "refused", 0, "`percent` of phones that refuse")
	flags.Uint64Var(&o.dice.seed, "seed", 1, "which phones these are")
	flags.DurationVar(&o.reboot, "reboot", 10*time.Second, "how long a phone is away")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if o.admin == "" || flags.NArg() != 0 || o.count < 1 || o.count > 9999 {
		return nil, errors.New("want --admin FILE (provisiond init writes admin.json), and --count 1 to 9999")
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	owner, err := newOperator(o.admin)
	if err != nil {
		return err
	}
	m, err := newMaker("Fleetsim " + time.Now().UTC().Format("20060102-150405"))
	if err != nil {
		return err
	}
	releases := strings.Split(o.releases, ",")
	phones, err := owner.deliver(ctx, m, o.count, releases...)
	if err != nil {
		return err
	}
	f := newFleet(&service{o.server, o.name, owner.roots}, phones, o.reboot)
	f.roll(o.dice)
	start := time.Now()
	if err := f.enroll(ctx, releases[0]); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d phones of model %s enrolled in %s; end with Ctrl-C\n", o.count, model, time.Since(start).Round(time.Millisecond))
	done := make(chan struct{})
	go func() { defer close(done); f.run(ctx) }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-tick.C:
			fmt.Fprintln(stdout, f.soFar())
		}
	}
}
