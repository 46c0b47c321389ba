package sysctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes every file of the list under a fresh root, for three interfaces.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, s := range settings() {
		for _, name := range []string{"all", "default", "eth0"} {
			f := filepath.Join(root, strings.ReplaceAll(s.path, "*", name))
			if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, []byte("9\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestApply(t *testing.T) {
	root := tree(t)
	if err := Apply(root); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"net/ipv4/conf/eth0/accept_redirects": "0", "net/ipv4/conf/all/rp_filter": "1",
		"kernel/kptr_restrict": "2", "kernel/yama/ptrace_scope": "2", "net/ipv4/ip_forward": "0"} {
		if got, err := os.ReadFile(filepath.Join(root, file)); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v, want %q", file, got, err, want)
		}
	}
}

// TestApplyRefuses: each case takes one switch away.
func TestApplyRefuses(t *testing.T) {
	for _, s := range settings() {
		root := tree(t)
		files, _ := filepath.Glob(filepath.Join(root, s.path))
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := Apply(root); (err != nil) == s.optional || err != nil && !strings.Contains(err.Error(), s.path) {
			t.Errorf("without %s: Apply = %v, optional %t", s.path, err, s.optional)
		}
	}
	root := tree(t) // a switch that cannot be moved
	file := filepath.Join(root, "kernel/kptr_restrict")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", file); err != nil {
		t.Fatal(err)
	}
	if err := Apply(root); err == nil || !strings.Contains(err.Error(), "kptr_restrict") {
		t.Errorf("a switch that keeps its value: Apply = %v", err)
	}
}
