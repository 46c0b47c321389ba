// Package callserver runs the site that provisioning/registrar writes on a
// real Kamailio, for the laboratory and for tests of both halves. It is not
// for production: there a service manager runs Kamailio.
package callserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"ringfence/provisioning/registrar"
)

// Server is one running Kamailio.
type Server struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start writes site into dir, starts Kamailio there and waits until it
// accepts connections. Its log is dir/kamailio.log.
func Start(ctx context.Context, dir string, site registrar.Site) (*Server, error) {
	if err := registrar.Write(dir, site); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "kamailio.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd := registrar.Command(context.WithoutCancel(ctx), dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start kamailio: %w", err)
	}
	s := &Server{cmd: cmd, done: make(chan struct{})}
	go func() { defer close(s.done); _ = cmd.Wait() }() // Stop and ready look at done
	if err := s.ready(ctx, site); err != nil {
		s.Stop()
		text, _ := os.ReadFile(filepath.Join(dir, "kamailio.log")) // only to explain err
		return nil, fmt.Errorf("kamailio: %w\n%s", err, text[max(0, len(text)-2000):])
	}
	return s, nil
}

func (s *Server) ready(ctx context.Context, site registrar.Site) error {
	for _, addr := range []string{site.Admin.String(), site.Listen.String()} {
		for deadline := time.Now().Add(15 * time.Second); ; {
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				_ = conn.Close()
				break
			}
			select {
			case <-s.done:
				return fmt.Errorf("ended at start")
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("no answer at %s: %w", addr, err)
			}
		}
	}
	return nil
}

// Stop ends Kamailio and its children and waits for them: by SIGTERM, after
// five seconds by SIGKILL.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // may have ended already
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // no such group = all gone
	<-s.done
}

// Installed reports whether kamailio can run here.
func Installed() bool {
	out, err := exec.Command("kamailio", "-v").Output()
	return err == nil && bytes.Contains(out, []byte("kamailio"))
}
