package input

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	class := t.TempDir()
	for event, name := range map[string]string{"event0": "QEMU Virtio Keyboard\n", "event1": "phone-keys\n"} {
		dir := filepath.Join(class, event, "device")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := findIn(class, "phone-keys"); got != "/dev/input/event1" {
		t.Errorf("findIn(phone-keys) = %q, %v", got, err)
	}
	if got, err := findIn(class, "virtio keyboard"); got != "/dev/input/event0" {
		t.Errorf("findIn(virtio keyboard) = %q, %v", got, err)
	}
	if _, err := findIn(class, "mouse"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("findIn(mouse) = %v, want os.ErrNotExist", err)
	}
}

// TestCloseEndsNext: a role must be able to stop its reader.
func TestCloseEndsNext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := d.Next()
		done <- err
	}()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next after Close = %v, want os.ErrClosed", err)
	}
	if _, err := New(nil); err == nil {
		t.Error("New(nil) = nil, want an error")
	}
}
