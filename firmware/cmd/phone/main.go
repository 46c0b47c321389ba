// Command phone is the whole userland of a Ringfence phone: one static binary
// whose role is its argv[0]. As PID 1 it is init. It is wiring: what the roles
// do stands in the packages of firmware. It takes no configuration but the
// measured kernel command line and the locked configuration.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"ringfence/firmware/supervise"
)

// role is the main function of one process.
type role func(ctx context.Context, args []string) error

func roles() map[string]role {
	all := map[string]role{
		roleNet:   runNet,
		roleAgent: runAgent,
		roleUI:    runUI,
		roleCall:  runCall,
		roleMedia: runMedia,
	}
	for name, r := range labRoles() {
		all[name] = r
	}
	return all
}

func main() {
	if os.Getpid() == 1 {
		runInit()
		return
	}
	name := filepath.Base(os.Args[0])
	r, ok := roles()[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "ringfence: no role %q; init starts the roles\n", name)
		os.Exit(2)
	}
	if err := supervise.Await(os.Stdin); err != nil {
		newLog(os.Stderr, name).Error("failed", "error", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := r(ctx, os.Args[1:]); err != nil && ctx.Err() == nil {
		newLog(os.Stderr, name).Error("failed", "error", err)
		os.Exit(1)
	}
}
