// Package rollout decides which phone is told of which release, and when: ring
// by ring, each with a success threshold, a soak time and a limit after which a
// silent phone counts as failed. A ring that fails halts the rollout by itself.
// It carries no trust and no image: the phone verifies what it is told
// (package wire/release), and the service believes only a committed phone that
// proves the release.
//
//	proposed -> running <-> halted(reason);  running -> done;  any -> aborted
//
// Sources: Uptane 2.0 (director role), TUF 1.0.34 (what a phone verifies).
package rollout

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/release"
)

// Status is where a rollout stands.
type Status string

// The statuses. Done and Aborted are final.
const (
	Proposed Status = "proposed" // waits for a second person
	Running  Status = "running"
	Halted   Status = "halted" // starts no phone; Reason says why
	Done     Status = "done"
	Aborted  Status = "aborted"
)

// Over says that nothing can happen any more.
func (s Status) Over() bool { return s == Done || s == Aborted }

// PhoneState is where one phone of a rollout stands.
type PhoneState string

// The phone states. Failed may still turn into Committed, when a phone that
// was given up reports late.
const (
	Waiting   PhoneState = "waiting" // not told: its ring is closed, or it is not connected
	Told      PhoneState = "told"    // must report committed within its ring's limit
	Committed PhoneState = "committed"
	Failed    PhoneState = "failed" // Cause says why
)

// Duration is a time.Duration whose text is "30m".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Ring is one step of a rollout. Exactly one of Devices, Count and Percent
// says which phones it takes, of those that no earlier ring took.
type Ring struct {
	Name      string      `json:"name"`
	Devices   []device.ID `json:"devices,omitempty"`
	Count     int         `json:"count,omitempty"`
	Percent   int         `json:"percent,omitempty"`  // of all phones of the rollout, 1 to 100, rounded up; 100 takes the rest
	Threshold int         `json:"threshold"`          // percent of its phones that must commit, 1 to 100
	Soak      Duration    `json:"soak"`               // between success and the next ring; 0 means none
	Limit     Duration    `json:"limit"`              // from being told to committed; silence beyond it is failure
	Wait      Duration    `json:"wait"`               // for phones that are not connected, before the ring goes on without them
	Parallel  int         `json:"parallel,omitempty"` // phones at work at once, 0 means all
}

// Plan is what an operator asks for.
type Plan struct {
	Release string       `json:"release"` // major.minor.patch
	Target  string       `json:"target"`  // path of the image in the update repository
	Model   device.Model `json:"model"`
	Rings   []Ring       `json:"rings"`
}

// MaxRings bounds a plan.
const MaxRings = 32

// Validate checks p by itself; which phones there are is checked by Members.
func (p *Plan) Validate() error {
	if _, err := release.ParseVersion(p.Release); err != nil {
		return err
	}
	if p.Model == "" || p.Target == "" || len(p.Target) > 512 {
		return errors.New("rollout without a model, or without a target of at most 512 bytes")
	}
	if len(p.Rings) == 0 || len(p.Rings) > MaxRings {
		return fmt.Errorf("rollout of %d rings, want 1 to %d", len(p.Rings), MaxRings)
	}
	names := make(map[string]bool)
	for i := range p.Rings {
		r := &p.Rings[i]
		if err := r.validate(); err != nil {
			return fmt.Errorf("ring %q: %w", r.Name, err)
		}
		if names[r.Name] {
			return fmt.Errorf("ring %q stands twice in the plan", r.Name)
		}
		names[r.Name] = true
	}
	return nil
}

func (r *Ring) validate() error {
	ways := 0
	for _, set := range []bool{len(r.Devices) > 0, r.Count != 0, r.Percent != 0} {
		if set {
			ways++
		}
	}
	switch {
	case !regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`).MatchString(r.Name):
		return errors.New("want a name of 1 to 32 lower-case letters, digits and '-'")
	case ways != 1:
		return errors.New("want either devices, a count or a percentage")
	case r.Count < 0 || r.Percent < 0 || r.Percent > 100:
		return fmt.Errorf("count %d, percentage %d: want a count above 0 or 1 to 100 %%", r.Count, r.Percent)
	case r.Threshold < 1 || r.Threshold > 100:
		return fmt.Errorf("success threshold of %d %%, want 1 to 100", r.Threshold)
	case r.Limit <= 0 || r.Soak < 0 || r.Wait < 0 || r.Parallel < 0:
		return errors.New("want a limit above 0, and no negative soak, wait or parallel")
	}
	return nil
}

// Rollout is the durable record beside its phones.
type Rollout struct {
	ID       string    `json:"id"`
	Plan     Plan      `json:"plan"`
	Status   Status    `json:"status"`
	Reason   string    `json:"reason,omitempty"` // of a halt or an abort
	By       string    `json:"by"`               // who started it
	Approved string    `json:"approved_by,omitempty"`
	Makers   []string  `json:"makers"` // manufacturers of its phones
	Created  time.Time `json:"created"`
	Ended    time.Time `json:"ended,omitzero"`
	Ring     int       `json:"ring"`               // newest open ring, -1 before the first
	Opened   time.Time `json:"opened,omitzero"`    // when it was
	Soaking  time.Time `json:"soaking,omitzero"`   // since when; zero while it is at work
	Forgiven []int     `json:"forgiven,omitempty"` // per ring: failures that an operator accepted by resuming
	LeftOut  int       `json:"left_out,omitempty"` // phones of the model that no ring takes
}

// Phone is one phone of a rollout.
type Phone struct {
	Device device.ID  `json:"device"`
	Ring   int        `json:"ring"`
	State  PhoneState `json:"state"`
	Told   time.Time  `json:"told,omitzero"`
	Since  time.Time  `json:"since,omitzero"` // its limit counts from here: told, told again or deferred
	Cause  string     `json:"cause,omitempty"`
}

// State is all that a decision depends on. Phones are in the order in which
// they are told.
type State struct {
	Rollout   Rollout
	Phones    []Phone
	Connected map[device.ID]bool // proved on an open stream
	InForce   bool               // the reference values of the release are, for every maker
}
