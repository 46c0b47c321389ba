package uart

import (
	"errors"
	"testing"

	"ringfence/hal"
)

func TestOpenRefuses(t *testing.T) {
	if _, err := Open("/dev/no-such-line", Baud); !errors.Is(err, hal.ErrAbsent) {
		t.Errorf("Open(missing) = %v, want hal.ErrAbsent", err)
	}
	if _, err := Open("/dev/null", 0); err == nil {
		t.Error("Open with speed 0 succeeded, want an error")
	}
	if _, err := Open("/dev/null", Baud); err == nil {
		t.Error("Open of something that is no serial line succeeded, want an error")
	}
}
