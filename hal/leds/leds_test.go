package leds

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ringfence/hal"
)

func TestLamp(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "brightness")
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		if got, _ := os.ReadFile(file); string(got) != want {
			t.Errorf("brightness %q, want %q", got, want)
		}
	}
	check("0")
	if err := l.Set(true); err != nil {
		t.Fatal(err)
	}
	check("1")
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, hal.ErrAbsent) {
		t.Errorf("Open(missing) = %v, want hal.ErrAbsent", err)
	}
}
