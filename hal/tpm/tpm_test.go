package tpm_test

import (
	"crypto/sha256"
	"errors"
	"testing"

	"ringfence/hal/tpm"
	"ringfence/hal/tpm/tpmtest"
)

func TestOpenAbsent(t *testing.T) {
	if _, err := tpm.Open(t.TempDir() + "/tpmrm0"); !errors.Is(err, tpm.ErrAbsent) {
		t.Fatalf("Open(missing) = %v, want ErrAbsent", err)
	}
	if _, err := tpm.New(nil); !errors.Is(err, tpm.ErrAbsent) {
		t.Fatalf("New(nil) = %v, want ErrAbsent", err)
	}
}

func TestPCRExtend(t *testing.T) {
	d := tpmtest.Start(t).Device
	before, err := d.ReadPCR(12)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("device tree"))
	if err := d.ExtendPCR(12, digest); err != nil {
		t.Fatal(err)
	}
	after, err := d.ReadPCR(12)
	if want := sha256.Sum256(append(before[:], digest[:]...)); err != nil || after != want {
		t.Fatalf("PCR 12 = %x, %v, want %x", after, err, want)
	}
	if _, err := d.ReadPCR(24); err == nil {
		t.Fatal("ReadPCR(24) = nil error")
	}
}

func TestFloorOnlyGrows(t *testing.T) {
	f := tpmtest.Start(t).Device.Floor(tpm.ConfigFloor)
	if _, err := f.Read(); !errors.Is(err, tpm.ErrNoFloor) {
		t.Fatalf("Read before Define = %v, want ErrNoFloor", err)
	}
	if err := f.Raise(3); !errors.Is(err, tpm.ErrNoFloor) {
		t.Fatalf("Raise before Define = %v, want ErrNoFloor", err)
	}
	for _, step := range []struct {
		do   func() error
		ok   bool
		want uint64
	}{
		{f.Define, true, 0},
		{func() error { return f.Raise(7) }, true, 7},
		{f.Define, true, 7},
		{func() error { return f.Raise(6) }, false, 7},
		{func() error { return f.Raise(7) }, true, 7},
	} {
		if err := step.do(); (err == nil) != step.ok {
			t.Fatalf("step = %v, want ok %v", err, step.ok)
		}
		if got, err := f.Read(); err != nil || got != step.want {
			t.Fatalf("Read = %d, %v, want %d", got, err, step.want)
		}
	}
}

func TestFailingTPM(t *testing.T) {
	vtpm := tpmtest.Start(t)
	for _, kind := range []tpmtest.Fault{tpmtest.Lost, tpmtest.Short} {
		vtpm.Faults.FailAt(1, kind)
		if v, err := vtpm.Device.ReadPCR(0); err == nil {
			t.Fatalf("ReadPCR with fault %d = %x, want an error", kind, v)
		}
	}
	if err := vtpm.Device.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := vtpm.Device.ReadPCR(0); !errors.Is(err, tpm.ErrClosed) {
		t.Fatalf("ReadPCR after Close = %v, want ErrClosed", err)
	}
}
