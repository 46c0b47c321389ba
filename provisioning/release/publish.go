package release

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	wire "ringfence/provisioning/wire/release"
)

// Log is the release log: it makes an entry public and returns the proof of
// that which a phone wants to see. An entry that it has already is not
// appended again.
type Log interface {
	Append(ctx context.Context, entry wire.Entry) (proof []byte, err error)
}

// Publication is what publishing needs beside a complete proposal.
type Publication struct {
	Image    []byte   // content of the proposal's image, nil if it has none
	Log      Log      // may be nil only without an image
	Password Password // of the online keys
	Now      time.Time
}

// Publish puts a proposal in force, if it builds on what is in force, enough
// different people have signed every document of it, the image is the one
// they signed, and the log has it. Clients see all of it or nothing.
func (r *Repository) Publish(ctx context.Context, p *Proposal, pub Publication) error {
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	st, err := r.load()
	if err != nil {
		return err
	}
	o, err := p.open()
	if err != nil {
		return err
	}
	st.resume(p, o)
	if err := st.accepts(p, o, pub.Now); err != nil {
		return err
	}
	next := st.after(o)
	if err := next.whole(pub.Now); err != nil {
		return err
	}
	keys, err := r.openOnline(ctx, next.root, pub.Password)
	if err != nil {
		return err
	}
	if p.Image != nil || len(pub.Image) > 0 {
		if err := r.publishImage(ctx, p, o, st, pub); err != nil {
			return err
		}
	}
	for _, d := range slices.Backward(p.Documents) { // the root last: clients follow it at once
		_, version := o.version(d.Role)
		if err := writeFile(r.metadataFile(version, d.Role), d.Metadata); err != nil {
			return fmt.Errorf("write %s: %w", d.Role, err)
		}
	}
	return r.writeOnline(next, keys, true, pub.Now)
}

// resume takes back a root that an interrupted publication of the same
// proposal has written, so that it can be repeated.
func (st *state) resume(p *Proposal, o *opened) {
	if o.oldRoot == nil || o.newRoot == nil || st.root == nil {
		return
	}
	for _, d := range p.Documents {
		if d.Role == metadata.ROOT && sameJSON(d.Metadata, st.rootRaw) && st.root.VerifyDelegate(metadata.ROOT, o.newRoot) == nil &&
			o.oldRoot.VerifyDelegate(metadata.ROOT, o.newRoot) == nil {
			st.root, st.rootRaw = o.oldRoot, p.Root
		}
	}
}

// version returns the version in force that a document replaces, 0 if none is
// known, and its own.
func (o *opened) version(role string) (old, new int64) {
	switch role {
	case metadata.ROOT:
		if o.oldRoot != nil {
			old = o.oldRoot.Signed.Version
		}
		return old, o.newRoot.Signed.Version
	case metadata.TARGETS:
		if o.oldTargets != nil {
			old = o.oldTargets.Signed.Version
		}
		return old, o.newTargets.Signed.Version
	default:
		if known := o.oldRoles[role]; known != nil {
			old = known.Signed.Version
		}
		return old, o.roles[role].Signed.Version
	}
}

// accepts holds the proposal against the repository: base, order of versions,
// expiry, who signed.
func (st *state) accepts(p *Proposal, o *opened, now time.Time) error {
	if (st.root == nil) != (o.oldRoot == nil) || st.root != nil && (!sameJSON(p.Root, st.rootRaw) || !sameJSON(p.Targets, st.targetsRaw)) {
		return errors.New("the proposal builds on another state of the repository: propose and sign it again")
	}
	for _, d := range p.Documents {
		old, version := o.version(d.Role)
		if raw := st.rolesRaw[d.Role]; !(len(raw) == 0 && len(p.Roles[d.Role]) == 0) && !sameJSON(raw, p.Roles[d.Role]) {
			return fmt.Errorf("the proposal builds on another %s than the one in force: propose and sign it again", d.Role)
		}
		if version != old+1 {
			return fmt.Errorf("%s has version %d, the next one is %d: propose and sign it again", d.Role, version, old+1)
		}
		if err := o.enough(d.Role); err != nil {
			return err
		}
		ds, err := o.summary(d.Role)
		if err != nil {
			return err
		}
		if !ds.Expires.After(now) {
			return fmt.Errorf("%s has expired before its publication", d.Role)
		}
	}
	return nil
}

// enough checks that a document has the signatures of enough different people.
func (o *opened) enough(role string) error {
	all, err := o.authorities(role)
	if err != nil {
		return err
	}
	body, signatures := o.body(role)
	for _, a := range all {
		if err := a.check(); err != nil {
			return fmt.Errorf("signers of %s: %w", role, err)
		}
		have, err := a.signed(body, *signatures)
		if err != nil {
			return err
		}
		if len(have) < a.threshold {
			return fmt.Errorf("%s has %d of %d signatures: %w", role, len(have), a.threshold, ErrIncomplete)
		}
	}
	return nil
}

// ErrIncomplete reports a proposal that lacks signatures.
var ErrIncomplete = errors.New("another person must sign")

// after is the state once the proposal is in force.
func (st *state) after(o *opened) *state {
	next := *st
	next.root, next.targets = o.root(), o.targets()
	next.roles = maps.Clone(st.roles)
	maps.Copy(next.roles, o.roles)
	return &next
}

// whole judges the state as go-tuf's client will: every document verifies
// under its delegator.
func (st *state) whole(now time.Time) error {
	for _, role := range []string{metadata.ROOT, metadata.TARGETS} {
		a, err := rootAuthority(&st.root.Signed, role)
		if err == nil {
			err = a.check()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
	}
	if err := errors.Join(st.root.VerifyDelegate(metadata.ROOT, st.root), st.root.VerifyDelegate(metadata.TARGETS, st.targets)); err != nil {
		return err
	}
	if st.root.Signed.IsExpired(now) || st.targets.Signed.IsExpired(now) {
		return errors.New("root or targets have expired: their owners must renew them first")
	}
	for _, d := range st.targets.Signed.Delegations.Roles {
		a, err := delegatedAuthority(&st.targets.Signed, d.Name)
		if err == nil {
			err = a.check()
		}
		if err != nil {
			return fmt.Errorf("signers of %s: %w", d.Name, err)
		}
		if len(d.Paths) != 1 || strings.Count(d.Paths[0], "/") != 3 || !d.Terminating {
			return fmt.Errorf("%s is not delegated to one model", d.Name)
		}
	}
	for role, md := range st.roles {
		if err := st.targets.VerifyDelegate(role, md); err != nil {
			return fmt.Errorf("role %s would no longer verify: %w", role, err)
		}
	}
	return nil
}

// publishImage checks the release's image and writes it, its reference values,
// bundles and proof. Nothing of that counts before the metadata lists it.
func (r *Repository) publishImage(ctx context.Context, p *Proposal, o *opened, st *state, pub Publication) error {
	if p.Image == nil || len(pub.Image) == 0 || pub.Log == nil {
		return errors.New("a release is published with its image and a release log, and nothing else is")
	}
	file, role, err := o.image(p.Image.Target)
	if err != nil {
		return err
	}
	if err := p.checkRelease(o, role, file, pub.Image); err != nil {
		return err
	}
	c, err := customOf(file)
	if err != nil {
		return err
	}
	entry := wire.Entry{Target: p.Image.Target, SHA256: hex.EncodeToString(file.Hashes["sha256"]), Length: file.Length,
		Release: c.Release, Sequence: c.Sequence}
	proof, err := pub.Log.Append(ctx, entry)
	if err != nil {
		return fmt.Errorf("release log: %w", err)
	}
	if len(proof) == 0 {
		return errors.New("the release log returned no proof")
	}
	files := map[string][]byte{
		filepath.Join(proofsDir, p.Image.Target):                                proof,
		filepath.Join(targetsDir, prefixed(p.Image.Target, file)):               pub.Image,
		filepath.Join(targetsDir, prefixedName(c.Reference, p.Image.Reference)): p.Image.Reference,
	}
	for id, b := range p.Image.Bundles {
		files[filepath.Join(targetsDir, p.Image.Target+"."+id+".sigstore.json")] = b
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(r.dir, name), data); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// checkRelease holds content, entry and bundles of an image together.
func (p *Proposal) checkRelease(o *opened, role string, file *metadata.TargetFiles, image []byte) error {
	if int64(len(image)) != file.Length || hex.EncodeToString(sum(image)) != hex.EncodeToString(file.Hashes["sha256"]) {
		return errors.New("the image is not the one that was signed")
	}
	a, err := delegatedAuthority(&o.targets().Signed, role)
	if err != nil {
		return err
	}
	good := 0
	for id, b := range p.Image.Bundles {
		key := a.keys[id]
		if key == nil {
			return fmt.Errorf("bundle of key %.8s, which may not sign for %s", id, role)
		}
		who, err := personOf(key)
		if err != nil {
			return err
		}
		if err := VerifyBundle(b, who.Key, file.Hashes["sha256"]); err != nil {
			return fmt.Errorf("bundle of %s: %w", who.Name, err)
		}
		good++
	}
	if good < a.threshold {
		return fmt.Errorf("%s has %d of %d bundles: %w", p.Image.Target, good, a.threshold, ErrIncomplete)
	}
	return nil
}

// onlyAdds checks that a document leaves published targets as they are, and
// brings the image (if one is named) and its reference values alone.
func onlyAdds(md, old *metadata.Metadata[metadata.TargetsType], image string) error {
	reference := ""
	if image != "" {
		c, err := customOf(md.Signed.Targets[image])
		if err != nil {
			return err
		}
		reference = c.Reference
	}
	if old != nil {
		for name := range old.Signed.Targets {
			if md.Signed.Targets[name] == nil {
				return fmt.Errorf("the document drops %s, which is published", name)
			}
		}
	}
	for name, file := range md.Signed.Targets {
		if old != nil && old.Signed.Targets[name] != nil {
			before := old.Signed.Targets[name]
			if before.Length != file.Length || !before.Hashes.Equal(file.Hashes) || !sameCustom(before.Custom, file.Custom) {
				return fmt.Errorf("the document changes %s, which is published", name)
			}
			continue
		}
		if name != image && name != reference {
			return fmt.Errorf("the document brings %s, which is not what it is proposed for", name)
		}
	}
	if md.Signed.Delegations != nil {
		return errors.New("a manufacturer may not delegate further")
	}
	return nil
}

func sameCustom(a, b *json.RawMessage) bool {
	if a == nil || b == nil {
		return a == b
	}
	return sameJSON(*a, *b)
}

// prefixed is the name of a target on disk under consistent snapshots
// (section 6.2): with its digest before the last part.
func prefixed(target string, file *metadata.TargetFiles) string {
	return path.Join(path.Dir(target), hex.EncodeToString(file.Hashes["sha256"])+"."+path.Base(target))
}

func prefixedName(target string, content []byte) string {
	return path.Join(path.Dir(target), hex.EncodeToString(sum(content))+"."+path.Base(target))
}

// Released lists the published images of a repository, oldest sequence first.
func (r *Repository) Released() ([]ImageSummary, error) {
	st, err := r.load()
	if err != nil {
		return nil, err
	}
	var out []ImageSummary
	for _, md := range st.roles {
		for name, file := range md.Signed.Targets {
			c, err := customOf(file)
			if err != nil {
				continue // reference values have no custom field
			}
			s := ImageSummary{Target: name, Length: file.Length, SHA256: hex.EncodeToString(file.Hashes["sha256"]), Custom: *c}
			bundles, err := filepath.Glob(filepath.Join(r.dir, targetsDir, name+".*.sigstore.json"))
			if err != nil {
				return nil, err
			}
			for _, b := range bundles {
				id := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(b), path.Base(name)+"."), ".sigstore.json")
				s.Bundles = append(s.Bundles, id)
			}
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b ImageSummary) int {
		return strings.Compare(fmt.Sprintf("%s %020d", path.Dir(path.Dir(a.Target)), a.Custom.Sequence), fmt.Sprintf("%s %020d", path.Dir(path.Dir(b.Target)), b.Custom.Sequence))
	})
	return out, nil
}

// Export writes an image under its own name into a folder, with its signers'
// bundles and public keys and the trusted root that cosign wants.
func (r *Repository) Export(target, dir string) error {
	st, err := r.load()
	if err != nil {
		return err
	}
	name := path.Base(target)
	found, err := filepath.Glob(filepath.Join(r.dir, targetsDir, target+".*.sigstore.json"))
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("no published image %s with bundles", target)
	}
	if err := r.exportImage(st, target, dir); err != nil {
		return err
	}
	for _, file := range found {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, filepath.Base(file)), raw); err != nil {
			return err
		}
		id := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), name+"."), ".sigstore.json")
		if key := st.targets.Signed.Delegations.Keys[id]; key != nil {
			if err := writeFile(filepath.Join(dir, id+".pub"), []byte(key.Value.PublicKey)); err != nil {
				return err
			}
		}
	}
	return writeFile(filepath.Join(dir, "trusted_root.json"), TrustedRoot())
}

func (r *Repository) exportImage(st *state, target, dir string) error {
	for _, md := range st.roles {
		file := md.Signed.Targets[target]
		if file == nil {
			continue
		}
		content, err := os.ReadFile(filepath.Join(r.dir, targetsDir, prefixed(target, file)))
		if err != nil {
			return err
		}
		if err := file.VerifyLengthHashes(content); err != nil {
			return fmt.Errorf("%s on this disk: %w", target, err)
		}
		return writeFile(filepath.Join(dir, path.Base(target)), content)
	}
	return fmt.Errorf("%s is not published", target)
}
