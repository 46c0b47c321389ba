package watchdog

import (
	"errors"
	"path/filepath"
	"testing"

	"ringfence/hal"
)

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none"), 30); !errors.Is(err, hal.ErrAbsent) {
		t.Errorf("Open(missing) = %v, want hal.ErrAbsent", err)
	}
	if _, err := Open("/dev/null", 30); err == nil {
		t.Error("Open of something that is no watchdog succeeded, want an error")
	}
}
