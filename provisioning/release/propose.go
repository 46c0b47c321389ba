package release

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	wire "ringfence/provisioning/wire/release"
)

// Delegation is a manufacturer's model and the people who release for it.
type Delegation struct {
	Manufacturer string // lower-case letters, digits, "."
	Model        string // likewise
	Signers      []Person
	Threshold    int // different people, at least 2
}

// Role is the name of the delegated role, "acme-virt64".
func (d Delegation) Role() string { return d.Manufacturer + "-" + d.Model }

// pattern covers the targets of the model: acme/virt64/RELEASE/FILE.
func (d Delegation) pattern() string { return d.Manufacturer + "/" + d.Model + "/*/*" }

// Setup is what a new repository starts with.
type Setup struct {
	Owners      []Person // at least 3, for root and targets; 2 must sign
	Snapshot    Person   // the online keys
	Timestamp   Person
	Delegations []Delegation
	Now         time.Time
}

// minOwners is how many people hold a root key at least.
const minOwners = 3

// Lifetimes of the offline documents.
const (
	rootLife    = 2 * 365 * 24 * time.Hour
	targetsLife = 365 * 24 * time.Hour
)

func expiry(now time.Time, life time.Duration) time.Time {
	return now.Add(life).UTC().Truncate(time.Second)
}

// NewSetup proposes the first root and the delegations. It is published like a
// release, once two owners have signed.
func NewSetup(s Setup) (*Proposal, error) {
	root := metadata.Root(expiry(s.Now, rootLife))
	if err := setOwners(&root.Signed, s.Owners); err != nil {
		return nil, err
	}
	for role, p := range map[string]Person{metadata.SNAPSHOT: s.Snapshot, metadata.TIMESTAMP: s.Timestamp} {
		if err := setOnline(&root.Signed, role, p); err != nil {
			return nil, err
		}
	}
	targets := metadata.Targets(expiry(s.Now, targetsLife))
	targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	for _, d := range s.Delegations {
		if err := setDelegation(&targets.Signed, d); err != nil {
			return nil, err
		}
	}
	return newProposal(nil, nil, root, targets, nil)
}

func setOwners(root *metadata.RootType, owners []Person) error {
	if len(owners) < minOwners {
		return fmt.Errorf("%d owners, want at least %d: a lost key must not lose the repository", len(owners), minOwners)
	}
	a, err := people(owners, minThreshold)
	if err != nil {
		return fmt.Errorf("owners: %w", err)
	}
	for _, role := range []string{metadata.ROOT, metadata.TARGETS} {
		root.Roles[role] = &metadata.Role{KeyIDs: a.ids(), Threshold: a.threshold}
	}
	maps.Copy(root.Keys, a.keys)
	dropUnused(root)
	return nil
}

func setOnline(root *metadata.RootType, role string, p Person) error {
	key, id, err := record(p)
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	for _, offline := range []string{metadata.ROOT, metadata.TARGETS} {
		if slices.Contains(root.Roles[offline].KeyIDs, id) {
			return fmt.Errorf("the online key for %s is an owner's key", role)
		}
	}
	root.Roles[role] = &metadata.Role{KeyIDs: []string{id}, Threshold: 1}
	root.Keys[id] = key
	dropUnused(root)
	return nil
}

// dropUnused removes keys that no role names any more.
func dropUnused(root *metadata.RootType) {
	maps.DeleteFunc(root.Keys, func(id string, _ *metadata.Key) bool {
		for _, role := range root.Roles {
			if slices.Contains(role.KeyIDs, id) {
				return false
			}
		}
		return true
	})
}

var namePart = regexp.MustCompile(`^[a-z0-9][a-z0-9.]{0,31}$`)

// setDelegation adds a delegation or replaces the one of the same role.
func setDelegation(t *metadata.TargetsType, d Delegation) error {
	if !namePart.MatchString(d.Manufacturer) || !namePart.MatchString(d.Model) {
		return fmt.Errorf("manufacturer %q, model %q: want lower-case letters, digits and dots", d.Manufacturer, d.Model)
	}
	a, err := people(d.Signers, d.Threshold)
	if err != nil {
		return fmt.Errorf("signers of %s: %w", d.Role(), err)
	}
	maps.Copy(t.Delegations.Keys, a.keys)
	role := metadata.DelegatedRole{Name: d.Role(), KeyIDs: a.ids(), Threshold: a.threshold, Terminating: true, Paths: []string{d.pattern()}}
	if old := delegation(t, d.Role()); old != nil {
		*old = role
	} else {
		t.Delegations.Roles = append(t.Delegations.Roles, role)
	}
	maps.DeleteFunc(t.Delegations.Keys, func(id string, _ *metadata.Key) bool {
		return !slices.ContainsFunc(t.Delegations.Roles, func(r metadata.DelegatedRole) bool { return slices.Contains(r.KeyIDs, id) })
	})
	return nil
}

// newProposal puts documents together; nil ones are left out.
func newProposal(base *state, image *Image, root *metadata.Metadata[metadata.RootType],
	targets *metadata.Metadata[metadata.TargetsType], roles map[string]*metadata.Metadata[metadata.TargetsType]) (*Proposal, error) {
	p := &Proposal{Schema: 1, Image: image}
	if base != nil {
		p.Root, p.Targets = base.rootRaw, base.targetsRaw
	}
	add := func(role string, raw []byte, err error) error {
		p.Documents = append(p.Documents, Document{role, raw})
		return err
	}
	var failed error
	if root != nil {
		raw, err := root.ToBytes(false)
		failed = errors.Join(failed, add(metadata.ROOT, raw, err))
	}
	if targets != nil {
		raw, err := targets.ToBytes(false)
		failed = errors.Join(failed, add(metadata.TARGETS, raw, err))
	}
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		if raw := base.rolesRaw[name]; len(raw) > 0 {
			p.Roles = map[string]json.RawMessage{name: raw} // one at a time is proposed
		}
		raw, err := roles[name].ToBytes(false)
		failed = errors.Join(failed, add(name, raw, err))
	}
	if failed != nil {
		return nil, failed
	}
	_, err := p.open()
	return p, err
}

// Release is a release to be proposed.
type Release struct {
	Manufacturer string
	Model        string
	Hardware     []string // revisions that may run it, at least one
	Version      string   // major.minor.patch
	Sequence     uint64   // greater than that of every release before
	Name         string   // file name of the image, "" means phone.efi
	Image        []byte
	Reference    []byte           // DSSE envelope of the reference values
	ReferenceKey crypto.PublicKey // of the manufacturer, signs the reference values
	Now          time.Time
}

// ProposeRelease proposes the next version of the model's role with the image in it.
func (r *Repository) ProposeRelease(rel Release) (*Proposal, error) {
	st, err := r.load()
	if err != nil {
		return nil, err
	}
	if st.targets == nil {
		return nil, errors.New("the repository has no root yet: publish its setup first")
	}
	d := Delegation{Manufacturer: rel.Manufacturer, Model: rel.Model}
	if delegation(&st.targets.Signed, d.Role()) == nil {
		return nil, fmt.Errorf("nobody may release for %s/%s", rel.Manufacturer, rel.Model)
	}
	if err := rel.check(); err != nil {
		return nil, err
	}
	md := st.nextRole(d.Role(), rel.Now)
	dir := path.Join(rel.Manufacturer, rel.Model, rel.Version)
	image, reference := path.Join(dir, rel.Name), path.Join(dir, rel.Name+".reference.json")
	custom, err := json.Marshal(wire.Custom{Model: rel.Model, Hardware: rel.Hardware, Release: rel.Version, Sequence: rel.Sequence, Reference: reference})
	if err != nil {
		return nil, err
	}
	if md.Signed.Targets[image] != nil {
		return nil, fmt.Errorf("%s is published already; a changed image needs a new version", image)
	}
	md.Signed.Targets[image] = targetFile(rel.Image, custom)
	md.Signed.Targets[reference] = targetFile(rel.Reference, nil)
	return newProposal(st, &Image{Target: image, Reference: rel.Reference}, nil, nil,
		map[string]*metadata.Metadata[metadata.TargetsType]{d.Role(): md})
}

// check fills in the name and holds the reference values against the image.
func (rel *Release) check() error {
	if rel.Name == "" {
		rel.Name = "phone.efi"
	}
	if !namePart.MatchString(rel.Name) || len(rel.Image) == 0 || len(rel.Hardware) == 0 {
		return errors.New("a release needs an image with a plain name, and hardware revisions")
	}
	ref, err := wire.VerifyReference(rel.Reference, rel.ReferenceKey)
	if err != nil {
		return err
	}
	if ref.Release != rel.Version || string(ref.Model) != rel.Model || hex.EncodeToString(ref.Image[:]) != hex.EncodeToString(sum(rel.Image)) {
		return fmt.Errorf("the reference values are for %s %s, or for another image of it", ref.Model, ref.Release)
	}
	return nil
}

func targetFile(data, custom []byte) *metadata.TargetFiles {
	f := &metadata.TargetFiles{Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum(data)}}
	if custom != nil {
		raw := json.RawMessage(custom)
		f.Custom = &raw
	}
	return f
}

// nextRole is the role's next version without signatures.
func (st *state) nextRole(role string, now time.Time) *metadata.Metadata[metadata.TargetsType] {
	md := metadata.Targets(expiry(now, targetsLife))
	if old := st.roles[role]; old != nil {
		md.Signed.Version = old.Signed.Version + 1
		md.Signed.Targets = maps.Clone(old.Signed.Targets)
	}
	return md
}

// checkImage checks the entry of a new image: its path is the model's, its
// custom field complete, its sequence and version above all others, its
// reference values present.
func checkImage(md, old *metadata.Metadata[metadata.TargetsType], d Delegation, image string, reference []byte) error {
	file := md.Signed.Targets[image]
	c, err := customOf(file)
	if err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	version, err := wire.ParseVersion(c.Release)
	if err != nil {
		return err
	}
	if want := path.Join(d.Manufacturer, d.Model, c.Release); path.Dir(image) != want || c.Model != d.Model || c.Sequence == 0 || len(c.Hardware) == 0 {
		return fmt.Errorf("%s: its path, model, sequence and hardware do not belong together", image)
	}
	ref := md.Signed.Targets[c.Reference]
	if ref == nil || path.Dir(c.Reference) != path.Dir(image) || hex.EncodeToString(ref.Hashes["sha256"]) != hex.EncodeToString(sum(reference)) {
		return fmt.Errorf("%s: its reference values are missing or others", image)
	}
	if old == nil {
		return nil
	}
	for name, before := range old.Signed.Targets {
		if before.Custom == nil {
			continue
		}
		b, err := customOf(before)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		was, err := wire.ParseVersion(b.Release)
		if err != nil {
			return err
		}
		if b.Sequence >= c.Sequence || was.Compare(version) >= 0 {
			return fmt.Errorf("release %s has sequence %d already: %s with %d is not after it", b.Release, b.Sequence, c.Release, c.Sequence)
		}
	}
	return nil
}

func customOf(file *metadata.TargetFiles) (*wire.Custom, error) {
	if file == nil || file.Custom == nil {
		return nil, errors.New("no custom field")
	}
	return wire.ParseCustom(*file.Custom)
}
