package release

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Change replaces people of a role: those named in Remove go, with every key
// of theirs, and Add come. An owner who gets a new key stands in both.
type Change struct {
	Remove []string
	Add    []Person
	Now    time.Time
}

func (c Change) apply(now authority) ([]Person, error) {
	var out []Person
	left := slices.Clone(c.Remove)
	for _, id := range now.ids() {
		key := now.keys[id]
		if slices.ContainsFunc(c.Remove, func(n string) bool { return strings.EqualFold(n, person(key)) }) {
			left = slices.DeleteFunc(left, func(n string) bool { return strings.EqualFold(n, person(key)) })
			continue
		}
		p, err := personOf(key)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if len(left) > 0 {
		return nil, fmt.Errorf("%s is no signer of the role", strings.Join(left, ", "))
	}
	return append(out, c.Add...), nil
}

func personOf(key *metadata.Key) (Person, error) {
	public, err := key.ToPublicKey()
	if err != nil {
		return Person{}, err
	}
	ec, _, err := keyID(public)
	return Person{Name: person(key), Key: ec}, err
}

// ProposeOwners proposes the next root. The top-level targets are proposed
// anew with it, since the old ones may lack signatures under the new owners.
func (r *Repository) ProposeOwners(c Change) (*Proposal, error) {
	st, root, err := r.nextRoot(c.Now)
	if err != nil {
		return nil, err
	}
	now, err := rootAuthority(&st.root.Signed, metadata.ROOT)
	if err != nil {
		return nil, err
	}
	owners, err := c.apply(now)
	if err != nil {
		return nil, err
	}
	if err := setOwners(&root.Signed, owners); err != nil {
		return nil, err
	}
	return newProposal(st, nil, root, st.nextTargets(c.Now), nil)
}

// ProposeOnline proposes a root with another snapshot or timestamp key.
func (r *Repository) ProposeOnline(role string, key Person, now time.Time) (*Proposal, error) {
	if role != metadata.SNAPSHOT && role != metadata.TIMESTAMP {
		return nil, fmt.Errorf("%q is no online role, want snapshot or timestamp", role)
	}
	st, root, err := r.nextRoot(now)
	if err != nil {
		return nil, err
	}
	if err := setOnline(&root.Signed, role, key); err != nil {
		return nil, err
	}
	return newProposal(st, nil, root, nil, nil)
}

// ProposeSigners proposes other people for a model, or a new model when there
// is none of the name (threshold 0 keeps the one in force). The role's own
// document is proposed anew with it, for the new people to sign.
func (r *Repository) ProposeSigners(manufacturer, model string, threshold int, c Change) (*Proposal, error) {
	st, err := r.load()
	if err != nil {
		return nil, err
	}
	if st.targets == nil {
		return nil, errors.New("the repository has no root yet: publish its setup first")
	}
	d := Delegation{Manufacturer: manufacturer, Model: model, Threshold: threshold}
	targets := st.nextTargets(c.Now)
	var now authority
	if old := delegation(&targets.Signed, d.Role()); old != nil {
		if now, err = delegatedAuthority(&targets.Signed, d.Role()); err != nil {
			return nil, err
		}
		if threshold == 0 {
			d.Threshold = old.Threshold
		}
	}
	if d.Signers, err = c.apply(now); err != nil {
		return nil, err
	}
	if err := setDelegation(&targets.Signed, d); err != nil {
		return nil, err
	}
	var roles map[string]*metadata.Metadata[metadata.TargetsType]
	if st.roles[d.Role()] != nil {
		roles = map[string]*metadata.Metadata[metadata.TargetsType]{d.Role(): st.nextRole(d.Role(), c.Now)}
	}
	return newProposal(st, nil, nil, targets, roles)
}

func (r *Repository) nextRoot(now time.Time) (*state, *metadata.Metadata[metadata.RootType], error) {
	st, err := r.load()
	if err != nil {
		return nil, nil, err
	}
	if st.root == nil {
		return nil, nil, errors.New("the repository has no root yet: publish its setup first")
	}
	root, err := decodeRoot(st.rootRaw) // a copy of its own
	if err != nil {
		return nil, nil, err
	}
	root.ClearSignatures()
	root.Signed.Version++
	root.Signed.Expires = expiry(now, rootLife)
	return st, root, nil
}

// nextTargets is the next version of the top-level targets without signatures.
func (st *state) nextTargets(now time.Time) *metadata.Metadata[metadata.TargetsType] {
	md := metadata.Targets(expiry(now, targetsLife))
	md.Signed.Version = st.targets.Signed.Version + 1
	md.Signed.Targets = maps.Clone(st.targets.Signed.Targets)
	old := st.targets.Signed.Delegations
	md.Signed.Delegations = &metadata.Delegations{Keys: maps.Clone(old.Keys), Roles: slices.Clone(old.Roles)}
	return md
}
