package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/fleet"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
)

func goodPlan() Plan {
	return Plan{Release: "1.1.0", Target: "virt64/1.1.0/phone.efi", Model: "virt64", Rings: []Ring{
		{Name: "lab", Devices: []device.ID{"RF-0003"}, Threshold: 100, Soak: Duration(time.Minute), Limit: Duration(time.Minute)},
		{Name: "rest", Percent: 100, Threshold: 99, Limit: Duration(time.Minute)}}}
}

func TestPlan(t *testing.T) {
	good := goodPlan()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit func(*Plan)
		want string
	}{
		{"release", func(p *Plan) { p.Release = "1.1" }, "major.minor.patch"},
		{"model", func(p *Plan) { p.Model = "" }, "without a model"},
		{"target", func(p *Plan) { p.Target = "" }, "without a model, or without a target"},
		{"no rings", func(p *Plan) { p.Rings = nil }, "0 rings"},
		{"many rings", func(p *Plan) { p.Rings = make([]Ring, MaxRings+1) }, "33 rings"},
		{"twice", func(p *Plan) { p.Rings[1].Name = "lab" }, "stands twice"},
		{"name", func(p *Plan) { p.Rings[0].Name = "Lab 1" }, "lower-case"},
		{"two ways", func(p *Plan) { p.Rings[0].Count = 1 }, "either devices"},
		{"no way", func(p *Plan) { p.Rings[1].Percent = 0 }, "either devices"},
		{"percent", func(p *Plan) { p.Rings[1].Percent = 101 }, "1 to 100 %"},
		{"count", func(p *Plan) { p.Rings[1].Percent, p.Rings[1].Count = 0, -1 }, "count above 0"},
		{"threshold", func(p *Plan) { p.Rings[1].Threshold = 0 }, "threshold of 0 %"},
		{"limit", func(p *Plan) { p.Rings[1].Limit = 0 }, "limit above 0"},
		{"soak", func(p *Plan) { p.Rings[1].Soak = -1 }, "no negative"},
	} {
		p := goodPlan()
		c.edit(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Validate() = %v, want %q", c.name, err, c.want)
		}
	}
}

// site is n phones RF-0001... on release 1.0.0.
func site(n int) []*fleet.Device {
	var all []*fleet.Device
	for i := range n {
		all = append(all, &fleet.Device{ID: device.ID(fmt.Sprintf("RF-%04d", i+1)), Model: "virt64", Manufacturer: "Maker", State: fleet.Trusted, Release: "1.0.0"})
	}
	return all
}

func TestMembers(t *testing.T) {
	devices := site(12)
	devices[0].State = fleet.Refused
	devices[1].State = fleet.Retired
	devices[3].State, devices[3].Release = fleet.Listed, ""
	devices[4].Release = "1.1.0"
	devices[5].Release = "2.0.0"
	devices[6].Model = "other"
	plan := goodPlan()
	plan.Rings[1] = Ring{Name: "half", Percent: 50, Threshold: 99, Limit: 1}
	phones, leftOut, err := Members(&plan, devices, "r1")
	if err != nil {
		t.Fatal(err)
	}
	if len(phones) != 4 || phones[0].Device != "RF-0003" || phones[1].Ring != 1 || leftOut != 2 { // of 6: one named, half of six
		t.Errorf("Members = %+v, %d left out", phones, leftOut)
	}
	again, _, _ := Members(&plan, append(slices.Clone(devices[6:]), devices[:6]...), "r1")
	if !slices.Equal(phones, again) {
		t.Errorf("another order of the same devices gives %+v, want %+v", again, phones)
	}
	plan.Rings[0].Devices = []device.ID{"RF-0001"}
	if _, _, err := Members(&plan, devices, "r1"); err == nil || !strings.Contains(err.Error(), "0 of the 1 phones named") {
		t.Errorf("a refused phone in a ring: %v", err)
	}
	plan = goodPlan()
	plan.Rings = append(plan.Rings, Ring{Name: "more", Count: 1, Threshold: 99, Limit: 1})
	if _, _, err := Members(&plan, devices, "r1"); err == nil || !strings.Contains(err.Error(), "no phone is left") {
		t.Errorf("a ring without phones: %v", err)
	}
}

func TestPolicy(t *testing.T) {
	policy := Policy{CanaryAbove: 10, CanaryAtMost: 5, ApprovalAbove: 100}
	for _, c := range []struct {
		phones, first int
		soak          time.Duration
		ok            bool
	}{{10, 10, 0, true}, {11, 11, time.Minute, false}, {11, 6, time.Minute, false}, {11, 5, time.Minute, true}, {11, 5, 0, false}} {
		plan := Plan{Rings: []Ring{{Name: "first", Soak: Duration(c.soak)}, {Name: "rest"}}}
		phones := make([]Phone, c.phones)
		for i := c.first; i < c.phones; i++ {
			phones[i].Ring = 1
		}
		if err := policy.Check(&plan, phones); (err == nil) != c.ok {
			t.Errorf("Check of %d phones, %d in the first ring, soak %s = %v, want ok %t", c.phones, c.first, c.soak, err, c.ok)
		}
	}
	if err := (Policy{}).Validate(); err == nil {
		t.Error("a policy without limits is accepted")
	}
}

func TestReport(t *testing.T) {
	plan, now := modelPlan(), epoch()
	told := Phone{Device: "P0", State: Told, Told: now, Since: now}
	silent := Phone{Device: "P0", State: Failed, Cause: CauseSilent}
	late := now.Add(maxDeferral * 2 * tick)
	for _, c := range []struct {
		name   string
		phone  Phone
		said   wire.Progress
		proved string
		at     time.Time
		want   Phone
	}{
		{"committed", told, wire.Progress{Release: "1.1.0", Phase: wire.PhaseCommitted}, "1.1.0", now, Phone{Device: "P0", State: Committed, Told: now, Since: now}},
		{"claimed", told, wire.Progress{Release: "1.1.0", Phase: wire.PhaseCommitted}, "1.0.0", now, Phone{Device: "P0", State: Failed, Told: now, Since: now, Cause: "claims 1.1.0, proves 1.0.0"}},
		{"other release", told, wire.Progress{Release: "1.0.5", Phase: wire.PhaseReverted}, "1.0.0", now, told},
		{"reverted", told, wire.Progress{Release: "1.1.0", Phase: wire.PhaseReverted, Cause: "register"}, "1.0.0", now, Phone{Device: "P0", State: Failed, Told: now, Since: now, Cause: "reverted: register"}},
		{"refused", told, wire.Progress{Release: "1.1.0", Phase: wire.PhaseRefused}, "1.0.0", now, Phone{Device: "P0", State: Failed, Told: now, Since: now, Cause: "refused"}},
		{"downloading", told, wire.Progress{Release: "1.1.0", Phase: wire.PhaseDownloading}, "1.0.0", now.Add(tick), told},
		{"deferred", told, wire.Progress{Release: "1.1.0", Phase: wire.PhaseDeferred}, "1.0.0", now.Add(tick), Phone{Device: "P0", State: Told, Told: now, Since: now.Add(tick)}},
		{"deferred for ever", told, wire.Progress{Release: "1.1.0", Phase: wire.PhaseDeferred}, "1.0.0", late, told},
		{"late", silent, wire.Progress{Release: "1.1.0", Phase: wire.PhaseCommitted}, "1.1.0", now, Phone{Device: "P0", State: Committed}},
		{"never told", Phone{State: Waiting}, wire.Progress{Release: "1.1.0", Phase: wire.PhaseCommitted}, "1.1.0", now, Phone{State: Waiting}},
	} {
		if got := Report(c.phone, &plan, &c.said, c.proved, c.at); got != c.want {
			t.Errorf("%s: Report = %+v, want %+v", c.name, got, c.want)
		}
	}
}
