package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"ringfence/firmware/network"
	"ringfence/provisioning/wire/report"
)

// Status is the phone's newest report, as `ringfence device show --json` has it.
func (s *Site) Status(ctx context.Context, id string) (*report.Status, error) {
	out, err := s.Admin(ctx, "device", "show", id, "--json")
	if err != nil {
		return nil, err
	}
	var d struct {
		Status *report.Status `json:"status"`
	}
	if err := json.Unmarshal(out, &d); err != nil {
		return nil, fmt.Errorf("read device %s: %w: %s", id, err, out)
	}
	if d.Status == nil {
		return nil, fmt.Errorf("%s has not reported yet", id)
	}
	return d.Status, nil
}

// CheckSockets holds a phone's socket table against what a phone of the lab may
// have: DHCP, one connection to each server, RTP in a call; no listener.
func CheckSockets(s *report.Status) error {
	// Users as the phone's table of roles gives them; ports as the lab's site has them.
	expected := network.Expected{Resolvers: []netip.Addr{netip.MustParseAddr("10.77.0.1")}, AgentPorts: []uint16{8443}, CallPorts: []uint16{5061},
		RTPMin: 20000, RTPMax: 20099, Net: 101, Agent: 102, Call: 104, Media: 105, InCall: s.InCall}
	var errs []error
	for _, socket := range expected.Unexpected(s.Sockets) {
		errs = append(errs, fmt.Errorf("unexpected socket %+v", socket))
	}
	held := map[int]int{}
	for _, socket := range s.Sockets {
		if socket.Proto == "tcp" && socket.State == "established" {
			held[socket.UID]++
		}
	}
	for uid, n := range held {
		if n > 1 {
			errs = append(errs, fmt.Errorf("user %d holds %d connections, want 1", uid, n))
		}
	}
	return errors.Join(errs...)
}
