package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this binary play a role: it shows what it was given.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case "show":
		if err := Await(os.Stdin); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		status, _ := os.ReadFile("/proc/self/status")
		for _, line := range strings.Split(string(status), "\n") {
			for _, key := range []string{"Uid:", "Gid:", "Groups:", "CapEff:", "CapPrm:", "CapBnd:", "CapInh:", "CapAmb:", "NoNewPrivs:"} {
				if strings.HasPrefix(line, key) {
					fmt.Println(line)
				}
			}
		}
		limits, _ := os.ReadFile("/proc/self/limits")
		fmt.Print(string(limits))
		fds, _ := os.ReadDir("/proc/self/fd")
		for _, fd := range fds {
			target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
			fmt.Println("fd", fd.Name(), target)
		}
		os.Exit(0)
	case "sleep":
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

type fixture struct {
	*Supervisor
	out   *os.File
	mu    sync.Mutex
	ended []string
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f.out = r
	self, _ := os.Executable()
	// A role of another user must be able to reach the binary.
	_ = os.Chmod(self, 0o755)
	f.Supervisor, err = New(Config{Binary: "/proc/self/exe", Output: w, Log: slog.New(slog.DiscardHandler),
		Ended: func(role string, _ int, status string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ended = append(f.ended, role+" "+status)
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Reap(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done; r.Close(); w.Close() })
	return f
}

func role(name string) Role {
	return Role{Name: name, UID: os.Getuid(), Dir: "/", MaxFiles: 64, MaxProcs: 4096, MaxFileSize: 1 << 20}
}

func TestRestartAfterKill(t *testing.T) {
	f := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, role("sleep")) }()
	first := waitPID(t, f, 0)
	if err := f.Kill("sleep"); err != nil {
		t.Fatal(err)
	}
	second := waitPID(t, f, first)
	if err := syscall.Kill(first, 0); err == nil {
		t.Errorf("process %d lives after Kill", first)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(second, 0); err == nil {
		t.Errorf("process %d lives after the end of Run", second)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ended) != 2 || f.ended[0] != "sleep signal killed" {
		t.Errorf("ends %q, want two kills", f.ended)
	}
}

func waitPID(t *testing.T, f *fixture, not int) int {
	t.Helper()
	for range 500 {
		if pid := f.PID("sleep"); pid != 0 && pid != not {
			return pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no new process within 5 s")
	return 0
}

func TestWhatARoleGets(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("changing the user needs root; the boot test does it on the board")
	}
	if os.Getenv("RINGFENCE_OWN_USERS") == "" {
		inOwnUsers(t) // a container's root may not limit other users' processes
		return
	}
	wants := []string{"Uid: 12345 12345 12345 12345", "Gid: 12345 12345 12345 12345", "CapEff: 0000000000001000",
		"CapPrm: 0000000000001000", "CapBnd: 0000000000001000", "CapAmb: 0000000000001000", "Max open files 77 77",
		"Max core file size 0 0", "fd 0 pipe:", "fd 3 /dev/zero"}
	switch err := Lock(); {
	case err == nil:
		wants = append(wants, "NoNewPrivs: 1")
	case !errors.Is(err, syscall.ENOTSUP): // the race detector links C, which Lock cannot reach
		t.Fatal(err)
	}
	f := start(t)
	secret, _ := os.Open("/etc/passwd") // must not leak into the role
	defer secret.Close()
	r := role("show")
	r.UID, r.Caps, r.Once, r.MaxFiles = 12345, []uintptr{12}, true, 77 // CAP_NET_ADMIN
	extra, _ := os.Open("/dev/zero")
	defer extra.Close()
	r.Files = []*os.File{extra}
	if err := f.Run(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.cfg.Output.Close()
	raw, _ := io.ReadAll(f.out)
	out := strings.Join(strings.Fields(string(raw)), " ")
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("role shows %q, want %q", out, want)
		}
	}
	if strings.Contains(out, "/etc/passwd") {
		t.Errorf("a descriptor leaked: %q", out)
	}
}

// inOwnUsers runs the calling test again as root of a user namespace, in a
// binary without cgo as on the phone: with cgo, which the race detector brings,
// Go cannot make a system call in all threads.
func inOwnUsers(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "alone.test")
	build := exec.Command("go", "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build without cgo: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "RINGFENCE_OWN_USERS=1")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a user namespace: %v\n%s", err, out)
	}
}

func TestNext(t *testing.T) {
	tests := []struct{ delay, ran, want time.Duration }{
		{0, 0, firstDelay}, {firstDelay, 0, 2 * firstDelay}, {lastDelay, time.Second, lastDelay}, {lastDelay, settle, firstDelay},
	}
	for _, tt := range tests {
		if got := next(tt.delay, tt.ran); got != tt.want {
			t.Errorf("next(%v, %v) = %v, want %v", tt.delay, tt.ran, got, tt.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, spoil := range map[string]func(*Role){
		"no name": func(r *Role) { r.Name = "" }, "path as name": func(r *Role) { r.Name = "/bin/sh" },
		"no directory": func(r *Role) { r.Dir = "" }, "no limits": func(r *Role) { r.MaxFiles = 0 }, "user": func(r *Role) { r.UID = -1 },
	} {
		r := role("x")
		spoil(&r)
		if r.Validate() == nil {
			t.Errorf("%s: Validate() = nil, want an error", name)
		}
	}
}
