package translog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"ringfence/provisioning/translog"
	"ringfence/provisioning/translog/notekey"
	"ringfence/provisioning/translog/witness"
	"ringfence/provisioning/wire/release"
)

func entry(n int) release.Entry {
	return release.Entry{Target: fmt.Sprintf("acme/desk1/1.0.%d/phone.efi", n), SHA256: strings.Repeat(fmt.Sprintf("%02x", n%256), 32),
		Length: 1000 + int64(n), Release: fmt.Sprintf("1.0.%d", n), Sequence: uint64(n)}
}

// party is a witness on a socket of its own; around may stand between.
type party struct {
	key    notekey.Key
	state  string
	server *httptest.Server
	around atomic.Pointer[middle]
}

// middle stands between the log and a witness.
type middle func(http.Handler, http.ResponseWriter, *http.Request)

// world is a log's folder with running witnesses.
type world struct {
	dir     string
	logKey  string
	parties []*party
	config  translog.Config
}

// newWorld makes a log with n witnesses of which quorum must sign.
func newWorld(t *testing.T, n, quorum int) *world {
	t.Helper()
	w := &world{dir: filepath.Join(t.TempDir(), "log")}
	var list []translog.Witness
	for i := range n {
		key, err := notekey.Generate(fmt.Sprintf("w%d.ringfence.test", i))
		if err != nil {
			t.Fatal(err)
		}
		vkey, err := key.WitnessKey()
		if err != nil {
			t.Fatal(err)
		}
		p := newParty(t, key)
		list = append(list, translog.Witness{Key: vkey, URL: p.url()})
		w.parties = append(w.parties, p)
	}
	var err error
	if w.logKey, err = translog.Init(w.dir, "log.ringfence.test/releases", list, quorum); err != nil {
		t.Fatal(err)
	}
	for _, p := range w.parties {
		p.start(t, w.logKey)
	}
	if w.config, err = translog.Load(w.dir); err != nil {
		t.Fatal(err)
	}
	w.config.Interval, w.config.Timeout = 100*time.Millisecond, 10*time.Second
	return w
}

// newParty makes a witness with an empty memory; start starts it.
func newParty(t *testing.T, key notekey.Key) *party {
	t.Helper()
	p := &party{key: key, state: filepath.Join(t.TempDir(), "state.json"), server: httptest.NewUnstartedServer(nil)}
	if err := witness.InitState(p.state); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *party) url() string { return "http://" + p.server.Listener.Addr().String() }

func (p *party) start(t *testing.T, logs ...string) {
	t.Helper()
	w, err := witness.New(witness.Config{Key: p.key, Logs: logs, State: p.state, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h := w.Handler()
	p.server.Config.Handler = http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if between := p.around.Load(); between != nil {
			(*between)(h, out, in)
			return
		}
		h.ServeHTTP(out, in)
	})
	p.server.Start()
	t.Cleanup(func() {
		p.server.Close()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) open(t *testing.T) *translog.Log {
	t.Helper()
	l, err := translog.Open(t.Context(), w.config)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// leaves reads the log as a monitor does, which also recomputes its tree.
func (w *world) leaves(t *testing.T, trust *release.Trust) []release.Entry {
	t.Helper()
	return leavesOf(t, translog.Tiles(w.dir), trust)
}

func leavesOf(t *testing.T, dir string, trust *release.Trust) []release.Entry {
	t.Helper()
	from, err := translog.NewSource(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := translog.Monitor(t.Context(), from, trust, tlog.Tree{})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Alarms) > 0 {
		t.Errorf("alarms = %q, want none", f.Alarms)
	}
	var all []release.Entry
	for _, leaf := range f.New {
		all = append(all, leaf.Entry)
	}
	return all
}

func TestAppend(t *testing.T) {
	w := newWorld(t, 3, 2)
	l := w.open(t)
	trust := l.Trust()
	var proofs [][]byte
	for i := range 3 {
		proof, err := l.Append(t.Context(), entry(i))
		if err != nil {
			t.Fatal(err)
		}
		proofs = append(proofs, proof)
	}
	if _, err := translog.Open(t.Context(), w.config); err == nil {
		t.Error("Open(a log that is open) = nil, want an error")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = w.open(t)
	defer l.Close()
	again, err := l.Append(t.Context(), entry(1))
	if err != nil {
		t.Fatal(err)
	}
	for i, proof := range append(proofs, again) { // the old checkpoints still count
		if err := release.VerifyProof(proof, entry([]int{0, 1, 2, 1}[i]), trust); err != nil {
			t.Errorf("VerifyProof(proof %d) = %v, want nil", i, err)
		}
	}
	if err := release.VerifyProof(proofs[0], entry(1), trust); !errors.Is(err, release.ErrProofOfAnother) {
		t.Errorf("VerifyProof(proof of release 0 for 1) = %v, want %v", err, release.ErrProofOfAnother)
	}
	if got, want := w.leaves(t, trust), []release.Entry{entry(0), entry(1), entry(2)}; !slices.Equal(got, want) {
		t.Errorf("leaves = %v, want %v", got, want)
	}
	if _, err := l.Append(t.Context(), release.Entry{Target: "x"}); err == nil {
		t.Error("Append(entry without a digest) = nil, want an error")
	}
}

func TestAppendConcurrently(t *testing.T) {
	w := newWorld(t, 2, 2)
	l := w.open(t)
	defer l.Close()
	const releases, callers = 20, 3
	var group sync.WaitGroup
	for i := range releases * callers {
		group.Go(func() {
			e := entry(i % releases)
			proof, err := l.Append(t.Context(), e)
			if err == nil {
				err = release.VerifyProof(proof, e, l.Trust())
			}
			if err != nil {
				t.Errorf("Append(%s) = %v", e.Target, err)
			}
		})
	}
	group.Wait()
	if got := w.leaves(t, l.Trust()); len(got) != releases {
		t.Errorf("%d leaves, want %d", len(got), releases)
	}
}

// Without a quorum nothing is published, the error says who refused, and the
// same call completes the work when the witness is back.
func TestNoQuorum(t *testing.T) {
	w := newWorld(t, 3, 2)
	l := w.open(t)
	defer l.Close()
	if _, err := l.Append(t.Context(), entry(0)); err != nil {
		t.Fatal(err)
	}
	checkpoint := filepath.Join(translog.Tiles(w.dir), "checkpoint")
	before, err := os.ReadFile(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	down := true
	for _, p := range w.parties[1:] {
		lunch := middle(func(h http.Handler, out http.ResponseWriter, in *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if down {
				http.Error(out, "out to lunch", http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(out, in)
		})
		p.around.Store(&lunch)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = l.Append(short, entry(1))
	if !errors.Is(err, translog.ErrNotWitnessed) || !strings.Contains(fmt.Sprint(err), "out to lunch") {
		t.Errorf("Append(two of three witnesses down) = %v, want %v with the reason", err, translog.ErrNotWitnessed)
	}
	if after, _ := os.ReadFile(checkpoint); string(after) != string(before) {
		t.Errorf("a checkpoint without quorum was published:\n%s", after)
	}
	mu.Lock()
	down = false
	mu.Unlock()
	if _, err := l.Append(t.Context(), entry(1)); err != nil {
		t.Errorf("Append(witnesses back) = %v, want nil", err)
	}
	if got := w.leaves(t, l.Trust()); len(got) != 2 {
		t.Errorf("%d leaves, want 2", len(got))
	}
}

// A log set back to an older copy, on which another release is published, is a
// fork: the witness refuses it and nothing comes out.
func TestForkIsNotWitnessed(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.open(t)
	if _, err := l.Append(t.Context(), entry(0)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(translog.Tiles(w.dir))); err != nil {
		t.Fatal(err)
	}
	l = w.open(t)
	if _, err := l.Append(t.Context(), entry(1)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.config.Dir, w.config.Timeout = backup, time.Second
	l = w.open(t)
	defer l.Close()
	forged := entry(1)
	forged.SHA256 = strings.Repeat("66", 32)
	proof, err := l.Append(t.Context(), forged)
	if !errors.Is(err, translog.ErrNotWitnessed) || proof != nil || !strings.Contains(fmt.Sprint(err), "409") {
		t.Errorf("Append(on a fork) = %v, want %v with status 409", err, translog.ErrNotWitnessed)
	}
}

func TestHandler(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.open(t)
	defer l.Close()
	for i := range 2 {
		if _, err := l.Append(t.Context(), entry(i)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(translog.Tiles(w.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	server := httptest.NewServer(translog.Handler(root))
	defer server.Close()
	from, err := translog.NewSource(server.URL+"/", server.Client())
	if err != nil {
		t.Fatal(err)
	}
	f, err := translog.Monitor(t.Context(), from, l.Trust(), tlog.Tree{})
	if err != nil || len(f.New) != 2 || f.New[1].Entry != entry(1) {
		t.Fatalf("Monitor() = %+v, %v, want two releases", f, err)
	}
	for path, want := range map[string]int{"/checkpoint": 200, "/tile/0/000.p/2": 200, "/tile/entries/000.p/2": 200, "/tile/0/000": 404,
		"/": 404, "/tile/": 404, "/tile/0": 404, "/.lock": 404, "/.state/treeState": 404, "/../log.key": 404, "/tile/../.state/treeState": 404} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.URL.Path = path
		out := httptest.NewRecorder()
		translog.Handler(root).ServeHTTP(out, req)
		if got := out.Code; got != want && !(want == 404 && got == http.StatusTemporaryRedirect || got == http.StatusMovedPermanently) {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
	resp, err := http.Post(server.URL+"/checkpoint", "text/plain", nil)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /checkpoint = %v, %v, want 405", resp.StatusCode, err)
	}
}

func TestMonitor(t *testing.T) {
	w := newWorld(t, 1, 1)
	l := w.open(t)
	defer l.Close()
	other := entry(1)
	other.SHA256 = strings.Repeat("66", 32)
	for _, e := range []release.Entry{entry(0), entry(1), other} {
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	from, err := translog.NewSource(translog.Tiles(w.dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := translog.Monitor(t.Context(), from, l.Trust(), tlog.Tree{})
	if err != nil || len(f.New) != 3 || len(f.Alarms) != 1 {
		t.Fatalf("Monitor() = %+v, %v, want three leaves and an alarm about the target of two contents", f, err)
	}
	bad := f.Head
	bad.Hash[0] ^= 1
	for name, last := range map[string]tlog.Tree{"another root": bad, "more leaves": {N: 4, Hash: bad.Hash}, "another root before": {N: 2, Hash: bad.Hash}} {
		if _, err := translog.Monitor(t.Context(), from, l.Trust(), last); !errors.Is(err, translog.ErrForked) {
			t.Errorf("Monitor(%s) = %v, want %v", name, err, translog.ErrForked)
		}
	}
	if g, err := translog.Monitor(t.Context(), from, l.Trust(), f.Head); err != nil || len(g.New) != 0 {
		t.Errorf("Monitor(nothing new) = %+v, %v, want no leaf", g, err)
	}
	bundle := filepath.Join(translog.Tiles(w.dir), "tile/entries/000.p/3")
	raw, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bundle, []byte(strings.Replace(string(raw), "1.0.0", "1.0.9", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := translog.Monitor(t.Context(), from, l.Trust(), tlog.Tree{}); !errors.Is(err, translog.ErrForked) {
		t.Errorf("Monitor(leaf altered) = %v, want %v", err, translog.ErrForked)
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t, 2, 1)
	tests := []struct {
		name string
		edit func(*translog.Config)
	}{
		{"no folder", func(c *translog.Config) { c.Dir = "" }},
		{"no key", func(c *translog.Config) { c.Key = notekey.Key{} }},
		{"no quorum", func(c *translog.Config) { c.Quorum = 0 }},
		{"no witness", func(c *translog.Config) { c.Witnesses = nil }},
		{"quorum of more than there are", func(c *translog.Config) { c.Quorum = 3 }},
		{"one witness twice", func(c *translog.Config) { c.Witnesses = slices.Repeat(c.Witnesses[:1], 2) }},
		{"two witnesses at one address", func(c *translog.Config) {
			c.Witnesses = slices.Clone(c.Witnesses)
			c.Witnesses[1].URL = c.Witnesses[0].URL
		}},
		{"witness without an address", func(c *translog.Config) { c.Witnesses = []translog.Witness{{Key: c.Witnesses[0].Key}} }},
	}
	for _, tt := range tests {
		c := w.config
		tt.edit(&c)
		if l, err := translog.Open(t.Context(), c); err == nil {
			t.Errorf("Open(%s) = nil, want an error", tt.name)
			_ = l.Close() // already wrong
		}
	}
}
