package translog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"ringfence/provisioning/translog"
	"ringfence/provisioning/wire/release"
)

// Environment of a child process that appends one entry.
const (
	childDir   = "TRANSLOG_CHILD_DIR"
	childEntry = "TRANSLOG_CHILD_ENTRY"
)

// TestCrashChild is the process that TestCrash kills.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("only a child process of TestCrash")
	}
	n, err := strconv.Atoi(os.Getenv(childEntry))
	if err != nil {
		t.Fatal(err)
	}
	c, err := translog.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Interval = 100 * time.Millisecond
	l, err := translog.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(context.Background(), entry(n)); err != nil {
		t.Fatal(err)
	}
}

// child appends entry n in a process of its own.
func (w *world) child(t *testing.T, n int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestCrashChild$")
	cmd.Env = append(os.Environ(), childDir+"="+w.dir, childEntry+"="+strconv.Itoa(n))
	return cmd
}

// crash is a moment at which a process that appends dies.
type crash struct {
	name string
	// at kills the process while it asks the witness; nil = after delay
	at    func(kill func(), h http.Handler, out http.ResponseWriter, in *http.Request)
	delay time.Duration
}

func crashes() []crash {
	list := []crash{
		{name: "integrated, witness not asked", at: func(kill func(), _ http.Handler, _ http.ResponseWriter, _ *http.Request) { kill() }},
		{name: "witness signed, answer lost", at: func(kill func(), h http.Handler, _ http.ResponseWriter, in *http.Request) {
			h.ServeHTTP(httptest.NewRecorder(), in)
			kill()
		}},
		{name: "witness answered", at: func(kill func(), h http.Handler, out http.ResponseWriter, in *http.Request) {
			h.ServeHTTP(out, in)
			_ = http.NewResponseController(out).Flush() // a dead client is the point
			kill()
		}},
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		d := time.Duration(random.IntN(60)) * time.Millisecond
		list = append(list, crash{name: fmt.Sprintf("after %v", d), delay: d})
	}
	return list
}

// Whatever the moment, the next Append of the same entry completes it, the
// entry stands in the log once, and the witness still follows.
func TestCrash(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.leave(t, 0)
	for i, c := range crashes() {
		n := i + 1
		ok := t.Run(c.name, func(t *testing.T) {
			w.crash(t, c, n)
			w.leave(t, n)
		})
		if !ok {
			return
		}
	}
}

// crash runs the append and kills it.
func (w *world) crash(t *testing.T, c crash, n int) {
	t.Helper()
	cmd := w.child(t, n)
	var asked atomic.Bool
	started := make(chan struct{}) // cmd.Process is set
	if c.at != nil {
		deadly := middle(func(h http.Handler, out http.ResponseWriter, in *http.Request) {
			asked.Store(true)
			<-started
			c.at(func() { _ = cmd.Process.Kill() }, h, out, in) // it may have ended
		})
		w.parties[0].around.Store(&deadly)
		defer w.parties[0].around.Store(nil)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	if c.at == nil {
		time.Sleep(c.delay)
		_ = cmd.Process.Kill() // it may have ended
	}
	err := cmd.Wait()
	if c.at != nil && (!asked.Load() || err == nil) {
		t.Fatalf("the process was not killed while it asked the witness: %v", err)
	}
}

// leave appends entry n here and checks the whole log.
func (w *world) leave(t *testing.T, n int) {
	t.Helper()
	l := w.open(t)
	defer l.Close()
	proof, err := l.Append(t.Context(), entry(n))
	if err != nil {
		t.Fatal(err)
	}
	if err := release.VerifyProof(proof, entry(n), l.Trust()); err != nil {
		t.Fatal(err)
	}
	all := w.leaves(t, l.Trust())
	if len(all) != n+1 || all[n] != entry(n) {
		t.Fatalf("leaves = %v, want each of %d once", all, n+1)
	}
}
