//go:build linux

package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"
)

// The product binary has no symbol of the lab role; the lab binary shows that
// the test would see one.
func TestProductHasNoLab(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the binary twice")
	}
	for _, tt := range []struct {
		tags string
		want bool
	}{{"", false}, {"lab", true}} {
		bin := filepath.Join(t.TempDir(), "phone")
		if out, err := exec.Command("go", "build", "-tags", tt.tags, "-o", bin, ".").CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		symbols, err := exec.Command("go", "tool", "nm", bin).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(symbols, []byte("main.runLab")) || bytes.Contains(symbols, []byte("labRole)")); got != tt.want {
			t.Errorf("tags %q: lab symbols %v, want %v", tt.tags, got, tt.want)
		}
	}
}
