// Package lab sets up a whole Ringfence world on one machine, inside a user
// and network namespace of its own: a manufacturer, an owner's site with its
// provisioning service and call server, a network segment, and phones on
// emulated boards. Every part is the real one. It is used by the demo, the
// end-to-end tests and the benchmarks and decides nothing about pass or fail.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child in its own process group, its output in a log file.
type Process struct {
	Name string
	Log  string // path of its combined output

	cmd  *exec.Cmd
	done chan struct{}
	once sync.Once
	err  error
}

// Command describes a child.
type Command struct {
	Name string   // names the log file
	Args []string // program and arguments
	Dir  string   // working directory, "" = the caller's
	Env  []string // added to the caller's environment
}

// Start runs c with its output in logDir. The caller ends it with Stop.
func Start(logDir string, c Command) (*Process, error) {
	log, err := os.OpenFile(filepath.Join(logDir, c.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, log, log
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p := &Process{Name: c.Name, Log: log.Name(), cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Stop ends the process group: SIGTERM, after five seconds SIGKILL. It may be
// called more than once.
func (p *Process) Stop() {
	p.once.Do(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) // may have ended by itself
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
		}
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
		<-p.done
	})
}

// Alive reports whether the child still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// WaitLog waits until the log contains text. It fails early when the process
// ends, with the last lines of its log.
func (p *Process) WaitLog(ctx context.Context, text string) error {
	return Poll(ctx, func() error {
		raw, err := os.ReadFile(p.Log)
		if err != nil {
			return err
		}
		if bytes.Contains(raw, []byte(text)) {
			return nil
		}
		if !p.Alive() {
			return Final(fmt.Errorf("%s ended (%v):\n%s", p.Name, p.err, lastLines(raw, 15)))
		}
		return fmt.Errorf("%s: no %q in its log yet:\n%s", p.Name, text, lastLines(raw, 5))
	})
}

func lastLines(raw []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Final marks an error that waiting longer cannot mend.
func Final(err error) error { return finalError{err} }

// Poll calls check until it returns nil, a Final error, or ctx ends; then it
// returns the last error.
func Poll(ctx context.Context, check func() error) error {
	for {
		err := check()
		var final finalError
		if err == nil || errors.As(err, &final) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Run runs a command to its end and returns its standard output. The error
// carries what it printed on standard error.
func Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", strings.Join(args[:min(3, len(args))], " "), err,
			strings.TrimSpace(lastLines(stderr.Bytes(), 12)))
	}
	return stdout.Bytes(), nil
}
