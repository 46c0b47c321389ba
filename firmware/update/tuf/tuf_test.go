package tuf

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

func TestRefreshAsksOnlyForWhatIsNew(t *testing.T) {
	s, dir := newSimulator(t), t.TempDir()
	s.must(s.refresh(dir))
	if want := []string{"2.root", "timestamp", "1.snapshot", "1.targets"}; !slices.Equal(s.requests, want) {
		t.Errorf("first refresh asked for %v, want %v", s.requests, want)
	}
	s.must(s.refresh(dir))
	if want := []string{"2.root", "timestamp"}; !slices.Equal(s.requests, want) {
		t.Errorf("second refresh asked for %v, want %v", s.requests, want)
	}
	s.bump("targets")
	s.publish()
	s.must(s.refresh(dir))
	if want := []string{"2.root", "timestamp", "2.snapshot", "2.targets"}; !slices.Equal(s.requests, want) {
		t.Errorf("refresh after a change asked for %v, want %v", s.requests, want)
	}
}

// damages break one thing each of a repository that the client has seen.
func damages() map[string]func(s *simulator) {
	return map[string]func(s *simulator){
		"timestamp rolled back":             func(s *simulator) { s.timestamp.Signed.Version = 1; s.publishTimestamp() },
		"snapshot rolled back":              func(s *simulator) { s.timestamp.Signed.Version = 9; s.snapshot.Signed.Version = 1; s.publishOnline() },
		"targets rolled back":               func(s *simulator) { s.bump("targets"); s.targets["targets"].Signed.Version = 1; s.publish() },
		"role missing in the next snapshot": func(s *simulator) { s.bump("targets"); delete(s.snapshot.Signed.Meta, "extra.json"); s.publish() },
		"timestamp by another key": func(s *simulator) {
			s.timestamp.Signed.Version++
			s.keys["timestamp"] = s.keys["snapshot"]
			s.publishTimestamp()
		},
		"snapshot by another key": func(s *simulator) { s.bump("targets"); s.keys["snapshot"] = s.keys["timestamp"]; s.publish() },
		"targets by another key":  func(s *simulator) { s.bump("targets"); s.keys["targets"] = s.keys["timestamp"]; s.publish() },
		"mixed snapshot": func(s *simulator) {
			s.bump("targets")
			s.publish()
			s.files["metadata/3.snapshot.json"] = s.files["metadata/2.snapshot.json"]
		},
		"root that skips one": func(s *simulator) {
			s.root.Signed.Version = 3
			s.publishRoot()
			s.files["metadata/2.root.json"] = s.files["metadata/3.root.json"]
		},
		"root by new keys only": func(s *simulator) { s.root.Signed.Version = 2; s.rotate("root", 1); s.publishRoot() },
		"root not by its new keys": func(s *simulator) {
			s.root.Signed.Version = 2
			old := s.keys["root"]
			s.rotate("root", 1)
			s.keys["root"] = old
			s.publishRoot()
		},
		"expired timestamp": func(s *simulator) {
			s.timestamp.Signed.Version++
			s.timestamp.Signed.Expires = time.Now().Add(-time.Hour)
			s.publishTimestamp()
		},
		"expired snapshot": func(s *simulator) {
			s.bump("targets")
			s.snapshot.Signed.Expires = time.Now().Add(-time.Hour)
			s.publish()
		},
		"expired root": func(s *simulator) {
			s.root.Signed.Version = 2
			s.root.Signed.Expires = time.Now().Add(-time.Hour)
			s.publishRoot()
		},
		"null in timestamp": func(s *simulator) {
			s.timestamp.Signed.Version++
			s.timestamp.Signed.Meta["snapshot.json"] = nil
			s.publishTimestamp()
		},
		"null in snapshot": func(s *simulator) {
			s.bump("targets")
			s.publish()
			s.snapshot.Signed.Meta["targets.json"] = nil
			s.publishOnline()
		},
		"huge timestamp": func(s *simulator) {
			s.timestamp.Signed.Version++
			s.publishTimestamp()
			s.pad("metadata/timestamp.json", maxTimestamp)
		},
		"huge root": func(s *simulator) { s.root.Signed.Version = 2; s.publishRoot(); s.pad("metadata/2.root.json", maxRoot) },
		"specification 2": func(s *simulator) {
			s.timestamp.Signed.Version++
			s.timestamp.Signed.SpecVersion = "2.0.0"
			s.publishTimestamp()
		},
		"no JSON":             func(s *simulator) { s.files["metadata/timestamp.json"] = []byte("<html>") },
		"timestamp is a root": func(s *simulator) { s.files["metadata/timestamp.json"] = s.first },
	}
}

func TestRefreshRefuses(t *testing.T) {
	for name, damage := range damages() {
		t.Run(name, func(t *testing.T) {
			s, dir := newSimulator(t), t.TempDir()
			s.snapshot.Signed.Meta["extra.json"] = &metadata.MetaFiles{Version: 1}
			s.bump("targets")
			s.publish()
			peer := t.TempDir()
			s.must(s.refresh(dir))
			s.must(s.peer(peer))
			damage(s)
			if err := s.refresh(dir); err == nil {
				t.Error("Refresh = nil, want a refusal")
			}
			if ours := strings.HasPrefix(name, "null") || strings.HasPrefix(name, "specification"); ours {
				return // go-tuf's client follows the null, and does not read the version
			}
			if err := s.peer(peer); err == nil {
				t.Error("go-tuf's client accepts it: the case breaks nothing")
			}
		})
	}
}

func (s *simulator) pad(name string, n int) {
	s.files[name] = append(s.files[name], bytes.Repeat([]byte(" "), n)...)
}

func TestTwoRotationsBehind(t *testing.T) {
	s, dir := newSimulator(t), t.TempDir()
	s.must(s.refresh(dir))
	for range 2 {
		old := s.keys["root"]
		s.root.Signed.Version++
		for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
			s.rotate(role, 2)
		}
		s.publishRoot(old...)
	}
	s.bump("targets")
	s.publish()
	s.must(s.refresh(dir))
	c := s.client(dir, at(time.Now()))
	s.requests = nil
	s.must(c.Refresh(t.Context()))
	if c.RootVersion() != 3 || s.requests[0] != "4.root" {
		t.Errorf("root version %d after requests %v, want 3 from the store", c.RootVersion(), s.requests)
	}
}

// A phone whose state partition was rewritten does not follow another chain.
func TestForeignStore(t *testing.T) {
	s, other, dir := newSimulator(t), newSimulator(t), t.TempDir()
	other.root.Signed.Version = 2
	other.publishRoot()
	for name, data := range map[string][]byte{"root.json": other.first, "2.root": other.files["metadata/2.root.json"],
		"timestamp.json": other.files["metadata/timestamp.json"], "snapshot.json": other.files["metadata/1.snapshot.json"]} {
		s.must(Dir(dir).Save(name, data))
	}
	s.must(s.refresh(dir))
}

// Whatever a power cut leaves in the store, the next refresh works.
func TestBrokenStore(t *testing.T) {
	s, dir := newSimulator(t), t.TempDir()
	s.root.Signed.Version++
	s.publishRoot()
	s.must(s.refresh(dir))
	names, err := os.ReadDir(dir)
	s.must(err)
	if len(names) < 5 {
		t.Fatalf("store has %v", names)
	}
	for _, entry := range names {
		file := filepath.Join(dir, entry.Name())
		whole, err := os.ReadFile(file)
		s.must(err)
		for _, broken := range [][]byte{nil, whole[:len(whole)/2], []byte("null"), []byte(`{"signed":{"_type":"timestamp"}}`), bytes.Repeat([]byte{0}, 100)} {
			s.must(os.WriteFile(file, broken, 0o600))
			if err := s.refresh(dir); err != nil {
				t.Errorf("with %s = %.20q: %v", entry.Name(), broken, err)
			}
		}
	}
}

func TestClock(t *testing.T) {
	s := newSimulator(t)
	for _, tt := range []struct {
		name  string
		clock Clock
		want  error
	}{
		{"right", at(time.Now()), nil},
		{"1970", at(time.Unix(0, 0)), nil},
		{"2099", at(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)), ErrExpired},
		{"unknown", unknown, nil},
	} {
		if err := s.client(t.TempDir(), tt.clock).Refresh(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("clock %s: Refresh = %v, want %v", tt.name, err, tt.want)
		}
	}
	s.timestamp.Signed.Version++
	s.keys["timestamp"] = s.keys["snapshot"]
	s.publishTimestamp()
	if err := s.client(t.TempDir(), unknown).Refresh(t.Context()); err == nil {
		t.Error("with an unknown time, a timestamp by another key was accepted")
	}
	// The frozen mirror, seen by a phone that has a timestamp of that version.
	s, dir := newSimulator(t), t.TempDir()
	s.must(s.refresh(dir))
	if err := s.client(dir, at(time.Now().Add(60*24*time.Hour))).Refresh(t.Context()); !errors.Is(err, ErrExpired) {
		t.Errorf("frozen mirror: Refresh = %v, want ErrExpired", err)
	}
}

func TestDelegation(t *testing.T) {
	s := newSimulator(t)
	s.delegate("acme-virt64", 2, true, "acme/virt64/*/*")
	s.delegate("late", 1, false, "acme/*/*/*")
	s.add("acme-virt64", "acme/virt64/1.1.0/phone.efi", []byte("image"))
	s.add("acme-virt64", "acme/virt32/1.1.0/phone.efi", []byte("not theirs"))
	s.add("late", "acme/virt64/9.9.9/phone.efi", []byte("after a terminating role"))
	s.publish()
	c := s.client(t.TempDir(), at(time.Now()))
	got, err := c.Target(t.Context(), "acme/virt64/1.1.0/phone.efi")
	s.must(err)
	if got.Role != "acme-virt64" || got.Length != 5 {
		t.Errorf("Target = %+v", got)
	}
	for _, name := range []string{"acme/virt32/1.1.0/phone.efi", "acme/virt64/9.9.9/phone.efi", "acme/virt64/1.1.0/x/phone.efi", ""} {
		if _, err := c.Target(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Target(%q) = %v, want ErrNotFound", name, err)
		}
	}
	s.bump("acme-virt64")
	s.keys["acme-virt64"] = s.keys["acme-virt64"][:1]
	s.publish()
	if _, err := s.client(t.TempDir(), at(time.Now())).Target(t.Context(), "acme/virt64/1.1.0/phone.efi"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("one signature short: %v, want a refusal", err)
	}
}

func TestDownload(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1000)
	s := newSimulator(t)
	s.add("targets", "a b/image", content)
	s.publish()
	c := s.client(t.TempDir(), at(time.Now()))
	target, err := c.Target(t.Context(), "a b/image")
	s.must(err)
	for _, ranges := range []bool{true, false} {
		s.ranges = ranges
		for _, have := range []int{0, 1, 5000, 9999, 10000} {
			dst := bytes.NewBuffer(bytes.Clone(content[:have]))
			if err := c.Download(t.Context(), target, dst, bytes.NewReader(content[:have])); err != nil || !bytes.Equal(dst.Bytes(), content) {
				t.Errorf("resume from %d, ranges %v: %v, %d bytes", have, ranges, err, dst.Len())
			}
		}
	}
	s.ranges, s.cut = true, 4000
	dst := new(bytes.Buffer)
	if err := c.Download(t.Context(), target, dst, nil); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrMismatch) {
		t.Errorf("cut off: %v, want an unexpected end", err)
	}
	s.cut = 0
	if err := c.Download(t.Context(), target, dst, bytes.NewReader(bytes.Clone(dst.Bytes()))); err != nil || !bytes.Equal(dst.Bytes(), content) {
		t.Errorf("after the cut: %v", err)
	}
	for name, served := range map[string][]byte{"swapped": bytes.Repeat([]byte("x"), 10000), "longer": append(bytes.Clone(content), 'x')} {
		s.files["targets/a b/"+target.SHA256()+".image"] = served
		if err := c.Download(t.Context(), target, io.Discard, nil); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v, want ErrMismatch", name, err)
		}
	}
	if err := c.Download(t.Context(), target, io.Discard, bytes.NewReader(make([]byte, 10000))); !errors.Is(err, ErrMismatch) {
		t.Errorf("what was there is worthless: %v, want ErrMismatch", err)
	}
}

func FuzzTargets(f *testing.F) {
	s := newSimulator(f)
	s.delegate("acme", 1, true, "acme/*")
	s.add("targets", "a", []byte("a"))
	s.publish()
	for _, raw := range s.files {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _, _ = checkRoot(raw), checkTimestamp(raw), checkSnapshot(raw)
		if checkTargets(raw) != nil {
			return
		}
		md, err := metadata.Targets().FromBytes(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = delegated(md.Signed.Delegations, "acme/virt64")
		for name, file := range md.Signed.Targets {
			_, _ = newTarget(name, "targets", file)
		}
	})
}
