// Command provisiond is the provisioning service: it admits phones that prove
// themselves, configures them, and tells the call server who may register. It
// is one static binary with an embedded database, and no call server itself.
//
//	provisiond init DIR --name prov.example --sip-name sip.example --domain example
//	provisiond --config DIR/provisiond.toml
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "provisiond:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "init" {
		return runInit(ctx, args[1:], stderr)
	}
	flags := flag.NewFlagSet("provisiond", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "", "configuration `file`, as made by provisiond init")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *path == "" || flags.NArg() != 0 {
		return errors.New("want --config FILE, or: init DIR --name HOST --sip-name HOST --domain DOMAIN")
	}
	cfg, err := readConfig(*path)
	if err != nil {
		return err
	}
	return serve(ctx, cfg, stderr)
}
