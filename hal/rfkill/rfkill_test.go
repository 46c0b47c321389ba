package rfkill

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"ringfence/hal"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want Event
		bad  bool
	}{
		{"bluetooth added unblocked", []byte{2, 0, 0, 0, 2, 0, 0, 0}, Event{Index: 2, Type: Bluetooth}, false},
		{"wlan changed, soft block", []byte{1, 0, 0, 0, 1, 2, 1, 0}, Event{Index: 1, Type: WLAN, Op: 2, Soft: true}, false},
		{"newer kernel, longer event", []byte{1, 0, 0, 0, 1, 2, 0, 1, 9}, Event{Index: 1, Type: WLAN, Op: 2, Hard: true}, false},
		{"short", []byte{1, 0, 0, 0, 1, 2, 1}, Event{}, true},
	}
	for _, tt := range tests {
		got, err := parse(tt.in)
		if (err != nil) != tt.bad || got != tt.want {
			t.Errorf("%s: parse(%v) = %+v, %v, want %+v", tt.name, tt.in, got, err, tt.want)
		}
	}
}

func TestBlockAllMessage(t *testing.T) {
	want := []byte{0, 0, 0, 0, 0, 3, 1, 0}
	if got := changeAll(); !bytes.Equal(got, want) {
		t.Errorf("changeAll() = %v, want %v", got, want)
	}
}

func TestOpenAbsent(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "rfkill")); !errors.Is(err, hal.ErrAbsent) {
		t.Errorf("Open(missing) = %v, want hal.ErrAbsent", err)
	}
}
