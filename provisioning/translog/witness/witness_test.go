package witness_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"ringfence/provisioning/translog/notekey"
	"ringfence/provisioning/translog/witness"
)

const origin = "log.ringfence.test/releases"

// testLog is a log in memory whose key the test holds.
type testLog struct {
	key    notekey.Key
	stored []tlog.Hash
	n      int64
}

func newLog(t *testing.T, name string, leaves int, prefix string) *testLog {
	t.Helper()
	key, err := notekey.Generate(name)
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{key: key}
	for i := range leaves {
		more, err := tlog.StoredHashes(l.n, fmt.Appendf(nil, "%s%d", prefix, i), l)
		if err != nil {
			t.Fatal(err)
		}
		l.stored, l.n = append(l.stored, more...), l.n+1
	}
	return l
}

func (l *testLog) ReadHashes(indexes []int64) (out []tlog.Hash, err error) {
	for _, i := range indexes {
		out = append(out, l.stored[i])
	}
	return out, nil
}

// checkpoint is the signed head of the first n leaves.
func (l *testLog) checkpoint(t *testing.T, n int64) string {
	t.Helper()
	root, err := tlog.TreeHash(n, l)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := l.key.Signer()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", l.key.Name(), n, root)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// request asks for the head of n leaves after one of old.
func (l *testLog) request(t *testing.T, old, n int64) string {
	t.Helper()
	lines := fmt.Sprintf("old %d\n", old)
	if 0 < old && old < n {
		proof, err := tlog.ProveTree(n, old, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range proof {
			lines += h.String() + "\n"
		}
	}
	return lines + "\n" + l.checkpoint(t, n)
}

func (l *testLog) vkey(t *testing.T) string {
	t.Helper()
	key, err := l.key.LogKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newWitness(t *testing.T, state string, key notekey.Key, logs ...string) *witness.Witness {
	t.Helper()
	w, err := witness.New(witness.Config{Key: key, Logs: logs, State: state, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func post(t *testing.T, h http.Handler, body string) (int, string, string) {
	t.Helper()
	out := httptest.NewRecorder()
	h.ServeHTTP(out, httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(body)))
	raw, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return out.Code, out.Header().Get("Content-Type"), string(raw)
}

// The statuses of C2SP tlog-witness, add-checkpoint, in one history: each step
// sees what the steps before it left.
func TestAddCheckpoint(t *testing.T) {
	log := newLog(t, origin, 9, "a")
	fork := newLog(t, origin, 9, "b")
	fork.key = log.key
	unknown := newLog(t, "unknown.test", 3, "a")
	impostor := newLog(t, origin, 9, "a")
	key, err := notekey.Generate("w.test")
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state.json")
	if err := witness.InitState(state); err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, state, key, log.vkey(t))
	noProof := func(old, n int64) string { return fmt.Sprintf("old %d\n\n%s", old, log.checkpoint(t, n)) }
	zero := base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
	unsigned, _, _ := strings.Cut(log.checkpoint(t, 3), "\u2014")
	steps := []struct {
		name, body string
		status     int
		answer     string // "" = any
	}{
		{"no body", "", 400, ""},
		{"no checkpoint", "old 0\n\n", 400, ""},
		{"no signature", "old 0\n\n" + unsigned, 400, ""},
		{"old size with a zero before", strings.Replace(log.request(t, 0, 3), "old 0", "old 00", 1), 400, ""},
		{"old size negative", strings.Replace(log.request(t, 0, 3), "old 0", "old -1", 1), 400, ""},
		{"64 proof lines", "old 0\n" + strings.Repeat(zero, 64) + "\n" + log.checkpoint(t, 3), 400, ""},
		{"proof line too short", "old 0\nAAAA\n\n" + log.checkpoint(t, 3), 400, ""},
		{"request too large", log.request(t, 0, 3) + strings.Repeat("x", 64<<10), 400, ""},
		{"unknown log", unknown.request(t, 0, 3), 404, ""},
		{"another key of the log's name", impostor.request(t, 0, 3), 403, ""},
		{"old size above the tree's", strings.Replace(log.request(t, 0, 3), "old 0", "old 4", 1), 400, ""},
		{"old size of a log never seen", log.request(t, 2, 3), 409, "0\n"},
		{"proof where none may be", "old 0\n" + zero + "\n" + log.checkpoint(t, 3), 422, ""},
		{"empty tree", log.request(t, 0, 0), 200, ""},
		{"first", log.request(t, 0, 3), 200, ""},
		{"same again", log.request(t, 3, 3), 200, ""},
		{"same again with a proof", "old 3\n" + zero + "\n" + log.checkpoint(t, 3), 422, ""},
		{"fork of the same size", fork.request(t, 3, 3), 409, ""},
		{"fork that grows", fork.request(t, 3, 5), 422, ""},
		{"growth without a proof", noProof(3, 5), 422, ""},
		{"growth with a wrong proof", "old 3\n" + zero + "\n" + log.checkpoint(t, 5), 422, ""},
		{"old size too low", log.request(t, 2, 5), 409, "3\n"},
		{"growth", log.request(t, 3, 8), 200, ""},
		{"rollback", log.request(t, 3, 5), 409, "8\n"},
		{"rollback that knows", strings.Replace(log.request(t, 0, 5), "old 0", "old 8", 1), 400, ""},
		{"reopened", "", 0, ""},
		{"fork after reopening", fork.request(t, 8, 8), 409, ""},
		{"growth after reopening", log.request(t, 8, 9), 200, ""},
	}
	for _, s := range steps {
		if s.status == 0 {
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			w = newWitness(t, state, key, log.vkey(t))
			continue
		}
		status, kind, body := post(t, w.Handler(), s.body)
		if status != s.status || s.answer != "" && (body != s.answer || kind != "text/x.tlog.size") {
			t.Errorf("%s: status %d %s %q, want %d %q", s.name, status, kind, body, s.status, s.answer)
		}
		if signed := strings.HasPrefix(body, "\u2014 w.test "); signed != (s.status == 200) {
			t.Errorf("%s: answer %q, want a cosignature only with status 200", s.name, body)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// An independent verifier takes the cosignature, and its time is now.
func TestCosignaturePeer(t *testing.T) {
	log := newLog(t, origin, 2, "a")
	key, err := notekey.Generate("w.test")
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state.json")
	if err := witness.InitState(state); err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, state, key, log.vkey(t))
	defer w.Close()
	_, _, line := post(t, w.Handler(), log.request(t, 0, 2))
	vkey, err := key.WitnessKey()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := formats.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(log.checkpoint(t, 2)+line), note.VerifierList(peer))
	if err != nil {
		t.Fatal(err)
	}
	at, err := formats.CoSigV1Timestamp(n.Sigs[0])
	if err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("time of the cosignature = %v, %v, want now", at, err)
	}
}

// Of two heads of one size that arrive together, only one is ever signed.
func TestRace(t *testing.T) {
	log, fork := newLog(t, origin, 4, "a"), newLog(t, origin, 4, "b")
	fork.key = log.key
	key, err := notekey.Generate("w.test")
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state.json")
	if err := witness.InitState(state); err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, state, key, log.vkey(t))
	defer w.Close()
	bodies := []string{log.request(t, 0, 4), fork.request(t, 0, 4)}
	signed := make([]int, 20)
	var group sync.WaitGroup
	for i := range signed {
		group.Go(func() { signed[i], _, _ = post(t, w.Handler(), bodies[i%2]) })
	}
	group.Wait()
	total := 0
	for _, status := range signed {
		if status == http.StatusOK {
			total++
		}
	}
	if total != 1 {
		t.Errorf("%d requests were signed, want 1: %v", total, signed)
	}
}

// A witness signs nothing that it could not write down first.
func TestStateNotWritable(t *testing.T) {
	log := newLog(t, origin, 2, "a")
	key, err := notekey.Generate("w.test")
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "gone", "state.json")
	if err := witness.InitState(state); err != nil {
		t.Fatal(err)
	}
	w := newWitness(t, state, key, log.vkey(t))
	defer w.Close()
	dir := filepath.Dir(state)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, body := post(t, w.Handler(), log.request(t, 0, 2)); status != http.StatusInternalServerError || strings.Contains(body, "\u2014") {
		t.Errorf("status %d %q, want 500 without a signature", status, body)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := post(t, w.Handler(), log.request(t, 0, 2)); status != http.StatusOK {
		t.Errorf("status %d when the disk is back, want 200", status)
	}
}

func TestNewRefuses(t *testing.T) {
	log := newLog(t, origin, 0, "")
	key, err := notekey.Generate("w.test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", "{}\n")
	other := newWitness(t, file("used", "{}"), key, log.vkey(t))
	defer other.Close()
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	tests := []struct {
		name  string
		key   notekey.Key
		logs  []string
		state string
	}{
		{"no key", notekey.Key{}, []string{log.vkey(t)}, good},
		{"no log", key, nil, good},
		{"log twice", key, []string{log.vkey(t), log.vkey(t)}, good},
		{"rubbish for a log key", key, []string{"x"}, good},
		{"no state", key, []string{log.vkey(t)}, ""},
		{"state lost", key, []string{log.vkey(t)}, filepath.Join(dir, "lost")},
		{"state empty", key, []string{log.vkey(t)}, file("empty", "")},
		{"state null", key, []string{log.vkey(t)}, file("null", "null")},
		{"state cut off", key, []string{log.vkey(t)}, file("cut", `{"x":{"size":1,"root":"`)},
		{"state with a bad root", key, []string{log.vkey(t)}, file("root", `{"x":{"size":1,"root":"AA"}}`)},
		{"state with a bad size", key, []string{log.vkey(t)}, file("size", `{"x":{"size":-1,"root":"`+root+`"}}`)},
		{"state of a running witness", key, []string{log.vkey(t)}, filepath.Join(dir, "used")},
	}
	for _, tt := range tests {
		c := witness.Config{Key: tt.key, Logs: tt.logs, State: tt.state, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		if w, err := witness.New(c); err == nil {
			t.Errorf("New(%s) = nil, want an error", tt.name)
			_ = w.Close() // already wrong
		}
	}
	if err := witness.InitState(good); err == nil {
		t.Error("InitState(state that exists) = nil, want an error")
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("old 0\n\nx\n1\ny\n\n\u2014 x AAAA\n"))
	f.Add([]byte("old 7\n" + strings.Repeat("A", 43) + "=\n\nx\n1\ny\n\n\u2014 x AAAA\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := witness.ParseRequest(raw)
		if err == nil && (r.Old < 0 || len(r.Proof) > 63 || len(r.Checkpoint) == 0) {
			t.Errorf("ParseRequest(%q) = %+v", raw, r)
		}
	})
}
