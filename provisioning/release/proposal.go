package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"ringfence/provisioning/wire"
)

// MaxProposal bounds a proposal file, in bytes.
const MaxProposal = 8 << 20

// Proposal is the one file that signers pass to each other: documents that are
// not in force yet, with the signatures collected so far. It carries what a
// signer on another machine needs to see who may sign.
type Proposal struct {
	Schema  int             `json:"schema"`            // 1
	Root    json.RawMessage `json:"root,omitempty"`    // root in force, absent before the first
	Targets json.RawMessage `json:"targets,omitempty"` // top-level targets in force, likewise
	// Roles holds the delegated documents in force that proposed ones replace.
	Roles     map[string]json.RawMessage `json:"roles,omitempty"`
	Documents []Document                 `json:"documents"`       // what is proposed, in the order of authority
	Image     *Image                     `json:"image,omitempty"` // of a release
}

// Document is TUF metadata that waits for signatures.
type Document struct {
	Role     string          `json:"role"`
	Metadata json.RawMessage `json:"metadata"`
}

// Image is the part of a release that is not metadata.
type Image struct {
	Target    string                     `json:"target"`    // path; length, digest and custom are in the metadata
	Reference []byte                     `json:"reference"` // DSSE envelope of the reference values
	Bundles   map[string]json.RawMessage `json:"bundles"`   // sigstore bundles by key identifier
}

// ParseProposal decodes a proposal strictly. Nothing in it is trusted: signing
// and publishing check it.
func ParseProposal(raw []byte) (*Proposal, error) {
	p := new(Proposal)
	if err := wire.DecodeStrict(raw, MaxProposal, p); err != nil {
		return nil, fmt.Errorf("decode proposal: %w", err)
	}
	if p.Schema != 1 {
		return nil, fmt.Errorf("proposal of schema %d, want 1", p.Schema)
	}
	if _, err := p.open(); err != nil {
		return nil, err
	}
	return p, nil
}

// Marshal returns the file.
func (p *Proposal) Marshal() ([]byte, error) {
	raw, err := json.Marshal(p)
	if err == nil && len(raw) > MaxProposal {
		err = fmt.Errorf("proposal of %d bytes: %w", len(raw), wire.ErrTooLarge)
	}
	return raw, err
}

// opened is a proposal with its documents decoded.
type opened struct {
	oldRoot, newRoot       *metadata.Metadata[metadata.RootType]
	oldTargets, newTargets *metadata.Metadata[metadata.TargetsType]
	oldRoles, roles        map[string]*metadata.Metadata[metadata.TargetsType] // delegated: in force, proposed
}

func (p *Proposal) open() (*opened, error) {
	o := &opened{oldRoles: map[string]*metadata.Metadata[metadata.TargetsType]{}, roles: map[string]*metadata.Metadata[metadata.TargetsType]{}}
	var err error
	if len(p.Root) > 0 {
		if o.oldRoot, err = decodeRoot(p.Root); err != nil {
			return nil, fmt.Errorf("root in force: %w", err)
		}
	}
	if len(p.Targets) > 0 {
		if o.oldTargets, err = decodeTargets(p.Targets); err != nil {
			return nil, fmt.Errorf("targets in force: %w", err)
		}
	}
	for role, raw := range p.Roles {
		if o.oldRoles[role], err = decodeTargets(raw); err != nil {
			return nil, fmt.Errorf("role %q in force: %w", role, err)
		}
	}
	seen := map[string]bool{}
	for _, d := range p.Documents {
		if seen[d.Role] {
			return nil, fmt.Errorf("two documents for role %q", d.Role)
		}
		seen[d.Role] = true
		if err := o.add(d); err != nil {
			return nil, fmt.Errorf("document for role %q: %w", d.Role, err)
		}
	}
	if len(seen) == 0 || o.root() == nil || o.targets() == nil {
		return nil, errors.New("proposal without documents, root or targets")
	}
	return o, o.honest(p.Image)
}

// honest checks that the documents bring what the proposal says and nothing
// else, so that nobody signs a target that was not shown.
func (o *opened) honest(image *Image) error {
	imageRole := ""
	if image != nil {
		var err error
		if _, imageRole, err = o.image(image.Target); err != nil {
			return err
		}
	}
	if o.newTargets != nil && len(o.newTargets.Signed.Targets) > 0 {
		return errors.New("the top-level targets list files: only delegated roles may")
	}
	for role, md := range o.roles {
		old := o.oldRoles[role]
		if role == imageRole {
			d, err := delegationOf(image.Target, role)
			if err != nil {
				return err
			}
			if err := checkImage(md, old, d, image.Target, image.Reference); err != nil {
				return err
			}
			if err := onlyAdds(md, old, image.Target); err != nil {
				return err
			}
		} else if err := onlyAdds(md, old, ""); err != nil {
			return fmt.Errorf("role %s: %w", role, err)
		}
	}
	return nil
}

// delegationOf reads manufacturer and model from the path of an image.
func delegationOf(target, role string) (Delegation, error) {
	manufacturer, rest, _ := strings.Cut(target, "/")
	model, _, _ := strings.Cut(rest, "/")
	d := Delegation{Manufacturer: manufacturer, Model: model}
	if d.Role() != role {
		return d, fmt.Errorf("%s is not for role %s to release", target, role)
	}
	return d, nil
}

func (o *opened) add(d Document) (err error) {
	switch d.Role {
	case metadata.ROOT:
		o.newRoot, err = decodeRoot(d.Metadata)
	case metadata.TARGETS:
		o.newTargets, err = decodeTargets(d.Metadata)
	case metadata.SNAPSHOT, metadata.TIMESTAMP, "":
		err = errors.New("is signed by the online service, not by people")
	default:
		o.roles[d.Role], err = decodeTargets(d.Metadata)
	}
	return err
}

// root and targets are those that will be in force.
func (o *opened) root() *metadata.Metadata[metadata.RootType] {
	if o.newRoot != nil {
		return o.newRoot
	}
	return o.oldRoot
}

func (o *opened) targets() *metadata.Metadata[metadata.TargetsType] {
	if o.newTargets != nil {
		return o.newTargets
	}
	return o.oldTargets
}

// image finds the proposed image and the role that lists it.
func (o *opened) image(target string) (*metadata.TargetFiles, string, error) {
	for role, md := range o.roles {
		if file := md.Signed.Targets[target]; file != nil {
			return file, role, nil
		}
	}
	return nil, "", fmt.Errorf("no proposed document lists the image %q", target)
}

// authorities of a role: one, or for a root that replaces another, both.
func (o *opened) authorities(role string) ([]authority, error) {
	switch role {
	case metadata.ROOT:
		a, err := rootAuthority(&o.newRoot.Signed, role)
		if err != nil || o.oldRoot == nil {
			return []authority{a}, err
		}
		b, err := rootAuthority(&o.oldRoot.Signed, role)
		return []authority{a, b}, err
	case metadata.TARGETS:
		a, err := rootAuthority(&o.root().Signed, role)
		return []authority{a}, err
	default:
		a, err := delegatedAuthority(&o.targets().Signed, role)
		return []authority{a}, err
	}
}

// body is what is signed, and the signatures so far.
func (o *opened) body(role string) (any, *[]metadata.Signature) {
	switch role {
	case metadata.ROOT:
		return o.newRoot.Signed, &o.newRoot.Signatures
	case metadata.TARGETS:
		return o.newTargets.Signed, &o.newTargets.Signatures
	default:
		return o.roles[role].Signed, &o.roles[role].Signatures
	}
}

func (o *opened) encode(role string) (json.RawMessage, error) {
	switch role {
	case metadata.ROOT:
		return o.newRoot.ToBytes(false)
	case metadata.TARGETS:
		return o.newTargets.ToBytes(false)
	default:
		return o.roles[role].ToBytes(false)
	}
}

// verifyBase checks what the proposal says is in force: the targets are by the
// root, and the root is pinned if a signer knows one.
func (p *Proposal) verifyBase(o *opened, pinned []byte) error {
	if len(pinned) > 0 && !sameJSON(p.Root, pinned) {
		return errors.New("the proposal builds on another root than the one given")
	}
	if o.oldRoot == nil {
		return nil
	}
	if err := o.oldRoot.VerifyDelegate(metadata.ROOT, o.oldRoot); err != nil {
		return fmt.Errorf("root in force: %w", err)
	}
	if o.oldTargets == nil {
		return nil
	}
	if err := o.oldRoot.VerifyDelegate(metadata.TARGETS, o.oldTargets); err != nil {
		return fmt.Errorf("targets in force: %w", err)
	}
	for role, md := range o.oldRoles {
		if err := o.oldTargets.VerifyDelegate(role, md); err != nil {
			return fmt.Errorf("role %s in force: %w", role, err)
		}
	}
	return nil
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// Sign adds the key's signature to every document that it may sign, and its
// bundle to the image. A key that has signed before, or that may sign nothing,
// is refused and the proposal stays as it was. pinned is the root that the signer knows, or nil.
func (p *Proposal) Sign(s *Signer, pinned []byte) error {
	o, err := p.open()
	if err != nil {
		return err
	}
	if err := p.verifyBase(o, pinned); err != nil {
		return err
	}
	next := slices.Clone(p.Documents)
	added, again := 0, 0
	imageRole := ""
	for i, d := range next {
		done, allowed, err := o.sign(d.Role, s)
		if err != nil {
			return fmt.Errorf("sign %s: %w", d.Role, err)
		}
		if !allowed {
			continue
		}
		if !done {
			again++
			continue
		}
		added++
		if next[i].Metadata, err = o.encode(d.Role); err != nil {
			return err
		}
		if p.Image != nil && o.roles[d.Role] != nil {
			imageRole = d.Role
		}
	}
	if added == 0 && again > 0 {
		return fmt.Errorf("key %.8s has signed already: the next signature must be another person's", s.id)
	}
	if added == 0 {
		return fmt.Errorf("key %.8s may sign nothing here; signers are %s", s.id, p.signerNames(o))
	}
	if imageRole != "" {
		if err := p.signImage(o, s); err != nil {
			return err
		}
	}
	p.Documents = next
	return nil
}

// sign adds a signature to one document, unless the key has signed it.
func (o *opened) sign(role string, s *Signer) (done, allowed bool, err error) {
	all, err := o.authorities(role)
	if err != nil {
		return false, false, err
	}
	body, signatures := o.body(role)
	var name string
	for _, a := range all {
		if key := a.keys[s.id]; key != nil {
			allowed, name = true, person(key)
		}
	}
	if !allowed {
		return false, false, nil
	}
	for _, a := range all {
		have, err := a.signed(body, *signatures)
		if err != nil {
			return false, true, err
		}
		for _, id := range have {
			if id == s.id {
				return false, true, nil
			}
			if len(all) == 1 && strings.EqualFold(person(a.keys[id]), name) {
				return false, true, fmt.Errorf("%s has signed already with another key", name)
			}
		}
	}
	payload, err := cjson.EncodeCanonical(body)
	if err != nil {
		return false, true, err
	}
	sig, err := s.signDigest(sum(payload))
	if err != nil {
		return false, true, err
	}
	kept := slices.DeleteFunc(slices.Clone(*signatures), func(x metadata.Signature) bool { return x.KeyID == s.id })
	*signatures = append(kept, metadata.Signature{KeyID: s.id, Signature: sig})
	return true, true, nil
}

func (p *Proposal) signImage(o *opened, s *Signer) error {
	file, _, err := o.image(p.Image.Target)
	if err != nil {
		return err
	}
	b, err := newBundle(s, file.Hashes["sha256"])
	if err != nil {
		return err
	}
	if p.Image.Bundles == nil {
		p.Image.Bundles = map[string]json.RawMessage{}
	}
	p.Image.Bundles[s.id] = b
	return nil
}

func (p *Proposal) signerNames(o *opened) string {
	var names []string
	for _, d := range p.Documents {
		all, err := o.authorities(d.Role)
		if err != nil {
			continue
		}
		for _, a := range all {
			for _, id := range a.ids() {
				if entry := fmt.Sprintf("%s (%.8s)", person(a.keys[id]), id); !slices.Contains(names, entry) {
					names = append(names, entry)
				}
			}
		}
	}
	return strings.Join(names, ", ")
}
