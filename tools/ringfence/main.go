// Command ringfence is the one command-line tool of manufacturers, operators
// and developers: it builds and signs images, flashes and enrols phones, and
// speaks to the provisioning service. It is not a service itself.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

func main() {
	klog.SetLogger(logr.Discard()) // of the release log's storage; what matters of it is in our errors
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ringfence:", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "ringfence",
		Short:         "Build, flash, enrol and govern desk phones that prove what they run",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().Bool("json", false, "print data as JSON")
	root.PersistentFlags().String("admin", os.Getenv("RINGFENCE_ADMIN"), "admin profile of the provisioning service (default $RINGFENCE_ADMIN)")
	for _, command := range commands() {
		root.AddCommand(command)
	}
	return root
}
