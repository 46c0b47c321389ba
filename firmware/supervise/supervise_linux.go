package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config of a Supervisor. All fields are required.
type Config struct {
	Binary string   // executable of every role
	Env    []string // environment of every role
	Output *os.File // standard output and error of every role, write-only
	Log    *slog.Logger
	// Ended is told of each end of a role, before it is started again.
	Ended func(role string, pid int, status string)
}

// Supervisor starts and watches roles. It is safe for concurrent use. In the
// process that holds one, nobody else may wait for children: it reaps all.
type Supervisor struct {
	cfg Config

	mu      sync.Mutex // held from fork until the child is entered, so that its end is not missed
	running map[string]*process
	byPID   map[int]*process
}

type process struct {
	role    Role
	pid     int
	started time.Time
	killed  bool
	ended   chan struct{} // closed by the reaper
}

// New checks the configuration.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Binary == "" || cfg.Output == nil || cfg.Log == nil || cfg.Ended == nil {
		return nil, errors.New("supervise: binary, output, log and ended are required")
	}
	return &Supervisor{cfg: cfg, running: map[string]*process{}, byPID: map[int]*process{}}, nil
}

// Lock forbids this process and all it starts to gain privileges by executing
// files (prctl PR_SET_NO_NEW_PRIVS), in every thread. PID 1 calls it before
// it starts the first role.
func Lock() error {
	if _, _, e := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("set no_new_privs: %w", e)
	}
	return nil
}

// Run keeps the role running until ctx ends, then kills it and waits. A role
// with Once set is run until it ends.
func (s *Supervisor) Run(ctx context.Context, role Role) error {
	if err := role.Validate(); err != nil {
		return err
	}
	var delay time.Duration
	for {
		p, err := s.start(role)
		if err != nil {
			return err
		}
		select {
		case <-p.ended:
		case <-ctx.Done():
			s.kill(p)
			<-p.ended
		}
		if ctx.Err() != nil || role.Once {
			return nil
		}
		if p.killed { // asked for: no fault of the role, so no waiting
			delay = 0
			continue
		}
		delay = next(delay, time.Since(p.started))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil
		}
	}
}

// Kill ends the role's process at once and returns when it is gone; Run starts
// a fresh one.
func (s *Supervisor) Kill(name string) error {
	s.mu.Lock()
	p := s.running[name]
	s.mu.Unlock()
	if p == nil {
		return fmt.Errorf("kill %s: %w", name, ErrUnknownRole)
	}
	s.kill(p)
	<-p.ended
	return nil
}

// PID returns the process id of the role, 0 when it is not running.
func (s *Supervisor) PID(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.running[name]; p != nil {
		return p.pid
	}
	return 0
}

func (s *Supervisor) kill(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.killed = true
	if s.byPID[p.pid] == p { // not reaped, so the number is still its own
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // can only fail when it is gone
	}
}

// Await returns once this process has its limits: they can only be set when it
// runs. A role's main calls it before anything else, with its standard input.
func Await(stdin io.Reader) error {
	_, err := io.Copy(io.Discard, stdin)
	return err
}

func (s *Supervisor) start(role Role) (*process, error) {
	// Standard input is a pipe that ends when the limits are set: see Await.
	bar, open, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role.Name, err)
	}
	defer bar.Close()
	defer open.Close()
	files := []uintptr{bar.Fd(), s.cfg.Output.Fd(), s.cfg.Output.Fd()}
	for _, f := range role.Files {
		files = append(files, f.Fd())
	}
	attr := &syscall.ProcAttr{Dir: role.Dir, Env: s.cfg.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	if role.UID != os.Getuid() {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(role.UID), Gid: uint32(role.UID)}
		attr.Sys.AmbientCaps = role.Caps
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := s.fork(role, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role.Name, err)
	}
	p := &process{role: role, pid: pid, started: time.Now(), ended: make(chan struct{})}
	s.running[role.Name], s.byPID[pid] = p, p
	if err := limit(pid, role); err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it must not run without its limits
		return nil, fmt.Errorf("limit %s: %w", role.Name, err)
	}
	s.cfg.Log.Info("started", "role", role.Name, "pid", pid, "user", role.UID)
	return p, nil
}

// fork starts the role from a thread of its own whose capability bounding set
// is the role's: the child inherits it (capabilities(7)), and the thread ends
// with its goroutine, which stays locked to it. Only PID 1's root may do so.
func (s *Supervisor) fork(role Role, attr *syscall.ProcAttr) (pid int, err error) {
	argv := append([]string{role.Name}, role.Args...)
	if attr.Sys.Credential == nil {
		return syscall.ForkExec(s.cfg.Binary, argv, attr)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		if err = bound(role.Caps); err == nil {
			pid, err = syscall.ForkExec(s.cfg.Binary, argv, attr)
		}
	}()
	<-done
	return pid, err
}

// bound drops all capabilities but keep from the thread's bounding set.
func bound(keep []uintptr) error {
	for c := uintptr(0); ; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); errors.Is(err, unix.EINVAL) && c > 0 {
			return nil // beyond the kernel's last capability
		} else if err != nil {
			return fmt.Errorf("read bounding set: %w", err)
		}
		if slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
}

func limit(pid int, role Role) error {
	for res, max := range map[int]uint64{unix.RLIMIT_NOFILE: role.MaxFiles, unix.RLIMIT_NPROC: role.MaxProcs,
		unix.RLIMIT_FSIZE: role.MaxFileSize, unix.RLIMIT_CORE: 0, unix.RLIMIT_MEMLOCK: 64 << 10} {
		if err := unix.Prlimit(pid, res, &unix.Rlimit{Cur: max, Max: max}, nil); err != nil {
			return fmt.Errorf("resource %d: %w", res, err)
		}
	}
	return nil
}

// Reap collects every child that ends, roles and orphans alike (PID 1 inherits
// those), until ctx ends.
func (s *Supervisor) Reap(ctx context.Context) {
	child := make(chan os.Signal, 1)
	signal.Notify(child, syscall.SIGCHLD)
	defer signal.Stop(child)
	for {
		for s.reapOne() {
		}
		select {
		case <-child:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Supervisor) reapOne() bool {
	var status syscall.WaitStatus
	s.mu.Lock()
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if err != nil || pid <= 0 {
		s.mu.Unlock()
		return errors.Is(err, syscall.EINTR)
	}
	p := s.byPID[pid]
	if p != nil {
		delete(s.byPID, pid)
		if s.running[p.role.Name] == p {
			delete(s.running, p.role.Name)
		}
	}
	s.mu.Unlock()
	if p == nil {
		return true
	}
	text := describe(status)
	s.cfg.Log.Info("ended", "role", p.role.Name, "pid", pid, "status", text)
	s.cfg.Ended(p.role.Name, pid, text)
	close(p.ended)
	return true
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + status.Signal().String()
	}
	return fmt.Sprintf("exit %d", status.ExitStatus())
}
