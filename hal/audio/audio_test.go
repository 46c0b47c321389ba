package audio

import (
	"errors"
	"testing"
	"time"
)

func TestFormatValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		f    Format
		want error
	}{
		{"wideband", Wideband(), nil},
		{"zero", Format{}, ErrFormat},
		{"rate", Format{4000, 1, 320, 8}, ErrFormat},
		{"channels", Format{16000, 3, 320, 8}, ErrFormat},
		{"period", Format{16000, 1, 8, 8}, ErrFormat},
		{"one period", Format{16000, 1, 320, 1}, ErrFormat},
	} {
		if err := c.f.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: Validate = %v, want %v", c.name, err, c.want)
		}
	}
	if d := Wideband().Period(); d != 20*time.Millisecond {
		t.Errorf("Period = %v, want 20ms", d)
	}
}
