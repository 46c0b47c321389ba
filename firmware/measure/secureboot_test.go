package measure

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSecureBoot(t *testing.T) {
	on, off := []byte{6, 0, 0, 0, 1}, []byte{6, 0, 0, 0, 0}
	for _, c := range []struct {
		name          string
		secure, setup []byte // nil: not there
		ok            bool
	}{
		{"on", on, off, true},
		{"off", off, off, false},
		{"no platform key", on, on, false},
		{"no variable", nil, off, false},
		{"no setup mode", on, nil, false},
		{"empty", []byte{}, off, false},
		{"no value", on[:4], off, false},
		{"longer", append([]byte{6, 0, 0, 0}, 1, 1), off, false},
	} {
		dir := t.TempDir()
		for name, raw := range map[string][]byte{secureBootVar: c.secure, setupModeVar: c.setup} {
			if raw == nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := SecureBoot(dir); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNotSecure) {
			t.Errorf("%s: SecureBoot = %v, want good %t", c.name, err, c.ok)
		}
	}
}
