package translog_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/translog"
)

// written is a file that an Append changed.
type written struct {
	name string
	data []byte
	at   time.Time
}

// snapshot returns the files of a folder.
func snapshot(t *testing.T, dir string) map[string]written {
	t.Helper()
	all := map[string]written{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, errRead := os.ReadFile(path)
		info, errInfo := d.Info()
		name, errName := filepath.Rel(dir, path)
		if err := errors.Join(errRead, errInfo, errName); err != nil {
			return err
		}
		all[name] = written{name, data, info.ModTime()}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func restore(t *testing.T, dir string, files []written) {
	t.Helper()
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, f.data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func values(m map[string]written) (out []written) {
	for _, f := range m {
		out = append(out, f)
	}
	return out
}

// changed returns what one Append wrote, in the order of writing: leaves, tile,
// tree state, checkpoint. The storage library writes each with O_SYNC and
// renames it into place before it begins the next. File times are too coarse to
// order by, but must not contradict.
func changed(t *testing.T, before, after map[string]written) (out []written) {
	t.Helper()
	for _, part := range []string{"tile/entries/", "tile/0/", ".state/treeState", "checkpoint"} {
		for name, f := range after {
			if old, there := before[name]; strings.HasPrefix(name, part) && (!there || string(old.data) != string(f.data)) {
				out = append(out, f)
			}
		}
	}
	if len(out) != 4 || !slices.IsSortedFunc(out, func(a, b written) int { return a.at.Compare(b.at) }) {
		t.Fatalf("an Append wrote %d files, want leaves, tile, tree state and checkpoint in this order", len(out))
	}
	return out
}

// TestPowerCut replays what one Append writes to every prefix, with the witness
// as it was before it signed and as it was afterwards, and then appends the
// same entry or another one: the log goes on and holds each entry once.
func TestPowerCut(t *testing.T) {
	w := newWorld(t, 1, 1)
	for n := range 3 {
		w.leave(t, n)
	}
	tiles := translog.Tiles(w.dir)
	before, stateBefore := snapshot(t, tiles), readState(t, w.parties[0])
	w.leave(t, 3)
	writes, stateAfter := changed(t, before, snapshot(t, tiles)), readState(t, w.parties[0])
	const integrated = 2 // index of the tree state
	for cut := range len(writes) + 1 {
		for _, signed := range []bool{false, true} {
			if signed && cut <= integrated || !signed && cut == len(writes) {
				continue // the witness is asked after the tree state and before the checkpoint
			}
			for _, n := range []int{3, 4} {
				t.Run(fmt.Sprintf("cut %d of %d, signed %v, entry %d", cut, len(writes), signed, n), func(t *testing.T) {
					state := stateBefore
					if signed {
						state = stateAfter
					}
					w.resume(t, values(before), writes[:cut], state, n)
				})
			}
		}
	}
}

func readState(t *testing.T, p *party) []byte {
	t.Helper()
	raw, err := os.ReadFile(p.state)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// resume opens the log that a power cut left, with its witness, and appends.
func (w *world) resume(t *testing.T, before, writes []written, state []byte, n int) {
	t.Helper()
	c := w.config
	c.Dir = t.TempDir()
	restore(t, c.Dir, before)
	restore(t, c.Dir, writes)
	p := newParty(t, w.parties[0].key)
	if err := os.WriteFile(p.state, state, 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t, w.logKey)
	c.Witnesses = []translog.Witness{{Key: c.Witnesses[0].Key, URL: p.url()}}
	l, err := translog.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Append(t.Context(), entry(n)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, e := range leavesOf(t, c.Dir, l.Trust()) {
		seen[e.Target]++
	}
	for _, i := range []int{0, 1, 2, n} {
		if seen[entry(i).Target] != 1 {
			t.Errorf("entry %d stands in the log %d times, want once", i, seen[entry(i).Target])
		}
	}
}
