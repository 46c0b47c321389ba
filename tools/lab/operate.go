package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

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
	ID     string         `json:"id"`
	State  string         `json:"state"`
	Reason string         `json:"reason"`
	Status *report.Status `json:"status"` // nil until the phone has reported
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

// WaitStatus waits until the phone has reported what it is doing.
func (s *Site) WaitStatus(ctx context.Context, id string) (Device, error) {
	var d Device
	err := Poll(ctx, func() (err error) {
		if d, err = s.Device(ctx, id); err == nil && d.Status == nil {
			err = fmt.Errorf("%s has reported no status yet", id)
		}
		return err
	})
	return d, err
}

// UnexpectedSockets returns the rows of a phone's socket table that are not in
// the allow-table: the DHCP client's packet socket, one outbound connection to
// the provisioning service and one to the call server, and RTP during a call.
func UnexpectedSockets(sockets []report.Socket, inCall bool) []report.Socket {
	seen := make(map[string]int)
	return slices.DeleteFunc(slices.Clone(sockets), func(s report.Socket) bool {
		for name, allowed := range map[string]struct {
			is   bool
			most int
		}{
			"dhcp":         {s.Proto == "packet", 1},
			"provisioning": {s.Proto == "tcp" && s.Remote == ServerAddress+":8443" && s.State != "listen", 1},
			"call server":  {s.Proto == "tcp" && s.Remote == SIPAddress && s.State != "listen", 1},
			"rtp":          {s.Proto == "udp" && inCall, 1},
		} {
			if allowed.is {
				seen[name]++
				return seen[name] <= allowed.most
			}
		}
		return false
	})
}
