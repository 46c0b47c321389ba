package update

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

// bytesStore is a Store with a given content.
type bytesStore []byte

func (b bytesStore) Load() ([]byte, error) { return b, nil }
func (b bytesStore) Save([]byte) error     { return nil }

// stillLocal is a phone in slot A that is not on trial.
type stillLocal struct{ *local }

func (stillLocal) Status(context.Context, bool) (Status, error) {
	return Status{Running: "a", Capacity: 1 << 20}, nil
}

func (stillLocal) Restart(context.Context, bool) error { return errRebooted }

// FuzzRecord settles whatever the state partition holds.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"schema":1,"slots":{}}`))
	f.Add([]byte(`{"schema":1,"slots":{"b":{"release":"1.0.1","sequence":2,"sha256":[1]}},"pending":{"release":"1.0.1","target":"t","slot":"b","attempts":2}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		remote := newRepository()
		u, err := New(Config{Local: stillLocal{}, Remote: remote, Verifier: remote, Floor: fixedFloor(3), Store: bytesStore(data),
			Image: t.TempDir() + "/image", Model: "virt64", Hardware: "r1", Release: "1.0.0", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.settle(t.Context()); err != nil && !errors.Is(err, errRebooted) {
			t.Errorf("settle = %v", err)
		}
	})
}

type fixedFloor uint64

func (f fixedFloor) Read() (uint64, error) { return uint64(f), nil }
func (fixedFloor) Raise(uint64) error      { return errors.New("raised") }
