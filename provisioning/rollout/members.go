package rollout

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"ringfence/provisioning/fleet"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/release"
)

// Policy bounds what one rollout may do at once (R35, R73).
type Policy struct {
	CanaryAbove   int // a rollout of more phones needs a small first ring that soaks
	CanaryAtMost  int // phones in that ring
	ApprovalAbove int // a rollout of more phones needs a second person
}

// Validate refuses a policy that would allow nothing or is incomplete.
func (p Policy) Validate() error {
	if p.CanaryAbove < 1 || p.CanaryAtMost < 1 || p.ApprovalAbove < 1 {
		return errors.New("rollout policy: canary_above, canary_at_most and approval_above must be 1 or more")
	}
	return nil
}

// Check refuses a plan whose first ring is too large or does not soak.
func (p Policy) Check(plan *Plan, phones []Phone) error {
	if len(phones) <= p.CanaryAbove {
		return nil
	}
	first := 0
	for i := range phones {
		if phones[i].Ring == 0 {
			first++
		}
	}
	if first > p.CanaryAtMost || plan.Rings[0].Soak <= 0 {
		return fmt.Errorf("a rollout to %d phones (more than %d) must start with a ring of at most %d phones that soaks; ring %q has %d and soaks %s",
			len(phones), p.CanaryAbove, p.CanaryAtMost, plan.Rings[0].Name, first, plan.Rings[0].soak())
	}
	return nil
}

func (r *Ring) soak() string {
	text, _ := r.Soak.MarshalText() // cannot fail
	return string(text)
}

// Members assigns devices to the rings of plan: enrolled phones of its model
// that run an older release, each ring in the order of SHA-256(seed, ID), so
// that a ring is spread over the site and a second look gives the same order.
// leftOut counts the phones that no ring takes.
func Members(plan *Plan, devices []*fleet.Device, seed string) (phones []Phone, leftOut int, err error) {
	pool, err := candidates(plan, devices, seed)
	if err != nil {
		return nil, 0, err
	}
	total := len(pool)
	for i := range plan.Rings {
		r := &plan.Rings[i]
		taken, err := r.take(pool, total)
		if err != nil {
			return nil, 0, fmt.Errorf("ring %q: %w", r.Name, err)
		}
		for _, id := range taken {
			phones = append(phones, Phone{Device: id, Ring: i, State: Waiting})
		}
		pool = slices.DeleteFunc(pool, func(id device.ID) bool { _, found := slices.BinarySearch(sorted(taken), id); return found })
	}
	return phones, len(pool), nil
}

func sorted(ids []device.ID) []device.ID {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return ids
}

func candidates(plan *Plan, devices []*fleet.Device, seed string) ([]device.ID, error) {
	want, err := release.ParseVersion(plan.Release)
	if err != nil {
		return nil, err
	}
	type place struct {
		id  device.ID
		key [sha256.Size]byte
	}
	var places []place
	for _, d := range devices {
		if d.Model != plan.Model || d.State != fleet.Trusted && d.State != fleet.Enrolled {
			continue // a refused phone is not repaired by an update
		}
		runs, err := release.ParseVersion(d.Release)
		if err != nil || runs.Compare(want) >= 0 {
			continue
		}
		places = append(places, place{d.ID, sha256.Sum256([]byte(seed + "\x00" + string(d.ID)))})
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("no enrolled phone of model %s runs a release before %s", plan.Model, plan.Release)
	}
	slices.SortFunc(places, func(a, b place) int { return bytes.Compare(a.key[:], b.key[:]) })
	ids := make([]device.ID, len(places))
	for i, p := range places {
		ids[i] = p.id
	}
	return ids, nil
}

// take returns the ring's phones out of pool; none is an error.
func (r *Ring) take(pool []device.ID, total int) ([]device.ID, error) {
	var taken []device.ID
	switch {
	case len(r.Devices) > 0:
		named := sorted(r.Devices)
		for _, id := range pool {
			if _, found := slices.BinarySearch(named, id); found {
				taken = append(taken, id)
			}
		}
		if len(taken) != len(slices.Compact(named)) {
			return nil, fmt.Errorf("%d of the %d phones named are enrolled, of this model and run an older release", len(taken), len(named))
		}
	case r.Count > 0:
		taken = pool[:min(r.Count, len(pool))]
	default:
		taken = pool[:min((total*r.Percent+99)/100, len(pool))]
	}
	if len(taken) == 0 {
		return nil, errors.New("no phone is left for it: drop the ring")
	}
	return slices.Clone(taken), nil
}
