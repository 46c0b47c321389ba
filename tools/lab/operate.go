package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"ringfence/provisioning/wire/report"
)

// Import does what an operator does with a delivery: trust the manufacturer,
// take the release's reference values, and make the manifest the allow-list.
func (w *World) Import(ctx context.Context, image Image, manifest string) error {
	for _, args := range [][]string{
		{"trust", "add", MakerName, "--release-key", filepath.Join(w.Manufacturer.Dir, "release.pub"),
			"--anchor", filepath.Join(w.Manufacturer.Dir, "device-ca.pem")},
		{"reference", "import", image.Reference()},
		{"manifest", "import", manifest},
	} {
		if _, err := w.Site.Admin(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Configure is `ringfence config set`.
func (s *Site) Configure(ctx context.Context, target string, settings ...string) error {
	_, err := s.Admin(ctx, append([]string{"config", "set", target}, settings...)...)
	return err
}

// Device is what `ringfence device show --json` says of a phone.
type Device struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Reason string `json:"reason"`
}

// Device asks the provisioning service about a phone.
func (s *Site) Device(ctx context.Context, id string) (Device, error) {
	var d Device
	out, err := s.Admin(ctx, "device", "show", id, "--json")
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(out, &d); err != nil {
		return d, fmt.Errorf("read device %s: %w: %s", id, err, out)
	}
	return d, nil
}

// WaitState waits until the service says that the phone is in state.
func (s *Site) WaitState(ctx context.Context, id, state string) error {
	return Poll(ctx, func() error {
		d, err := s.Device(ctx, id)
		if err != nil {
			return err
		}
		if d.State != state {
			return fmt.Errorf("%s is %s (%s), want %s", id, d.State, d.Reason, state)
		}
		return nil
	})
}

// WaitStatus waits for a report of the phone that holds what is asked for.
func (s *Site) WaitStatus(ctx context.Context, id string, holds func(*report.Status) bool) (*report.Status, error) {
	var status *report.Status
	err := Poll(ctx, func() (err error) {
		if status, err = s.Status(ctx, id); err == nil && !holds(status) {
			err = fmt.Errorf("%s reports %+v", id, *status)
		}
		return err
	})
	return status, err
}
