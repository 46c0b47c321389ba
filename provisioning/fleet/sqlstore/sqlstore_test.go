package sqlstore

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/audit"
	"ringfence/provisioning/fleet"
	"ringfence/provisioning/trust"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/factory"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestFleet(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "db")
	s := open(t, path)
	f, err := fleet.New(s)
	if err != nil {
		t.Fatal(err)
	}
	m := &factory.Manifest{Manufacturer: "Maker", Units: []factory.Unit{{Device: "RF-0001", Model: "virt64"}, {Device: "RF-0002", Model: "virt64"}}}
	if err := f.Import(ctx, m); err != nil {
		t.Fatal(err)
	}
	if err := f.Import(ctx, m); err != nil {
		t.Errorf("the same manifest again: %v", err)
	}
	other := &factory.Manifest{Manufacturer: "Maker", Units: []factory.Unit{{Device: "RF-0003"}, {Device: "RF-0001", AK: [32]byte{1}}}}
	if err := f.Import(ctx, other); err == nil {
		t.Error("a manifest replaced the identity of a listed phone")
	}
	if _, err := f.Device(ctx, "RF-0003"); !errors.Is(err, fleet.ErrUnknown) {
		t.Errorf("a refused manifest left RF-0003 behind: %v", err)
	}
	if err := f.Trust(ctx, "RF-0009", "1.0.0", time.Now()); !errors.Is(err, fleet.ErrUnknown) {
		t.Errorf("Trust(unlisted) = %v, want ErrUnknown", err)
	}
	if err := f.Retire(ctx, "RF-0002"); err != nil {
		t.Fatal(err)
	}
	if err := f.Trust(ctx, "RF-0002", "1.0.0", time.Now()); !errors.Is(err, fleet.ErrRetired) {
		t.Errorf("Trust(retired) = %v, want ErrRetired", err)
	}
	if err := f.Refuse(ctx, "RF-0001", "kernel differs"); err != nil {
		t.Fatal(err)
	}
	again := open(t, path) // another process sees what was committed
	d, err := again.Device(ctx, "RF-0001")
	if err != nil || d.State != fleet.Refused || d.Reason != "kernel differs" {
		t.Errorf("Device = %+v, %v", d, err)
	}
}

func TestAudit(t *testing.T) {
	ctx := t.Context()
	s := open(t, filepath.Join(t.TempDir(), "db"))
	done := make(chan error)
	for range 4 { // writers at once still make one chain
		go func() {
			var err error
			for range 10 {
				err = errors.Join(err, s.Append(context.WithoutCancel(ctx), audit.Event{Time: time.Now(), Name: "x"}))
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if head, err := s.VerifyAudit(ctx); err != nil || head.Seq != 40 {
		t.Fatalf("VerifyAudit = %d, %v", head.Seq, err)
	}
	if _, err := s.db.ExecContext(ctx, `UPDATE audit SET body = replace(body, '"name":"x"', '"name":"y"') WHERE seq = 7`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.VerifyAudit(ctx); err == nil || !strings.Contains(err.Error(), "entry 7 was altered") {
		t.Errorf("VerifyAudit of an altered list = %v", err)
	}
	if _, err := s.db.ExecContext(ctx, "DELETE FROM audit WHERE seq = 7"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.VerifyAudit(ctx); err == nil || !strings.Contains(err.Error(), "does not follow") {
		t.Errorf("VerifyAudit of a list with a gap = %v", err)
	}
}

func TestReferenceIsNeverChanged(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	for _, c := range []struct {
		envelope string
		ok       bool
	}{{`{"a":1}`, true}, {`{"a":1}`, true}, {`{"a":2}`, false}} {
		err := s.PutReference(t.Context(), &trust.Reference{Model: device.Model("virt64"), Release: "1.0.0", Envelope: []byte(c.envelope)})
		if (err == nil) != c.ok {
			t.Errorf("PutReference(%s) = %v", c.envelope, err)
		}
	}
}
