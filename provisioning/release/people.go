package release

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// personField names the person who holds a key, inside the signed key record.
const personField = "x-ringfence-person"

// minThreshold is how many different people every offline role needs.
const minThreshold = 2

// Person is one human and the public half of one key of theirs.
type Person struct {
	Name string
	Key  *ecdsa.PublicKey
}

// ParsePerson reads "name=FILE", where FILE is a public key in PEM.
func ParsePerson(s string) (Person, error) {
	name, file, ok := strings.Cut(s, "=")
	if !ok || name == "" || file == "" {
		return Person{}, fmt.Errorf("%q: want NAME=PUBLIC-KEY-FILE", s)
	}
	raw, err := readBounded(file, maxKeyFile)
	if err != nil {
		return Person{}, err
	}
	key, err := ParsePublicPEM(raw)
	if err != nil {
		return Person{}, fmt.Errorf("%s: %w", file, err)
	}
	return Person{Name: name, Key: key}, nil
}

// authority is who may sign a document, and how many of them must.
type authority struct {
	keys      map[string]*metadata.Key // of the role, by identifier
	threshold int
}

// people makes the authority of a set of persons. Two keys of one person, or
// one key of two, would let one human count twice.
func people(persons []Person, threshold int) (authority, error) {
	a := authority{keys: map[string]*metadata.Key{}, threshold: threshold}
	for _, p := range persons {
		key, id, err := record(p)
		if err != nil {
			return a, err
		}
		if a.keys[id] != nil {
			return a, fmt.Errorf("the key of %s is in the role twice", p.Name)
		}
		a.keys[id] = key
	}
	return a, a.check()
}

// record is the key as metadata holds it: its identifier is that of the bare
// key, as tuf-on-ci does it with the same kind of field.
func record(p Person) (*metadata.Key, string, error) {
	if strings.TrimSpace(p.Name) == "" || p.Key == nil {
		return nil, "", errors.New("a signer needs a name and a key")
	}
	key, err := metadata.KeyFromPublicKey(p.Key)
	if err != nil {
		return nil, "", err
	}
	_, id, err := keyID(p.Key)
	key.UnrecognizedFields = map[string]any{personField: p.Name}
	return key, id, err
}

func person(key *metadata.Key) string {
	name, _ := key.UnrecognizedFields[personField].(string)
	return name
}

// check refuses an authority in which one person would suffice.
func (a authority) check() error {
	if a.threshold < minThreshold {
		return fmt.Errorf("threshold %d, want at least %d: nobody publishes alone", a.threshold, minThreshold)
	}
	if len(a.keys) < a.threshold {
		return fmt.Errorf("%d signers for a threshold of %d", len(a.keys), a.threshold)
	}
	names := map[string]bool{}
	for id, key := range a.keys {
		if key == nil {
			return fmt.Errorf("key %.8s is not defined", id)
		}
		public, err := key.ToPublicKey()
		if err != nil {
			return fmt.Errorf("key %.8s: %w", id, err)
		}
		if _, real, err := keyID(public); err != nil || real != id {
			return fmt.Errorf("key %.8s is not what its identifier says", id)
		}
		name := strings.ToLower(strings.TrimSpace(person(key)))
		if name == "" {
			return fmt.Errorf("key %.8s names no person", id)
		}
		if names[name] {
			return fmt.Errorf("%s holds two keys of the role: signers must be different people", person(key))
		}
		names[name] = true
	}
	return nil
}

func (a authority) ids() []string {
	ids := make([]string, 0, len(a.keys))
	for id := range a.keys {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// signed lists the keys of the authority whose signature over the document verifies.
func (a authority) signed(body any, signatures []metadata.Signature) ([]string, error) {
	payload, err := cjson.EncodeCanonical(body)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(payload)
	var ids []string
	for _, s := range signatures {
		key := a.keys[s.KeyID]
		if key == nil {
			continue
		}
		public, err := key.ToPublicKey()
		if err != nil {
			return nil, err
		}
		ec, ok := public.(*ecdsa.PublicKey)
		if ok && ecdsa.VerifyASN1(ec, digest[:], s.Signature) && !slices.Contains(ids, s.KeyID) {
			ids = append(ids, s.KeyID)
		}
	}
	return ids, nil
}

func rootAuthority(root *metadata.RootType, role string) (authority, error) {
	r := root.Roles[role]
	if r == nil {
		return authority{}, fmt.Errorf("the root knows no role %q", role)
	}
	return pick(root.Keys, r.KeyIDs, r.Threshold)
}

func delegatedAuthority(targets *metadata.TargetsType, role string) (authority, error) {
	if d := delegation(targets, role); d != nil {
		return pick(targets.Delegations.Keys, d.KeyIDs, d.Threshold)
	}
	return authority{}, fmt.Errorf("nothing is delegated to role %q", role)
}

func delegation(targets *metadata.TargetsType, role string) *metadata.DelegatedRole {
	if targets == nil || targets.Delegations == nil {
		return nil
	}
	for i := range targets.Delegations.Roles {
		if targets.Delegations.Roles[i].Name == role {
			return &targets.Delegations.Roles[i]
		}
	}
	return nil
}

func pick(all map[string]*metadata.Key, ids []string, threshold int) (authority, error) {
	a := authority{keys: map[string]*metadata.Key{}, threshold: threshold}
	for _, id := range ids {
		if all[id] == nil {
			return a, fmt.Errorf("key %.8s is not defined", id)
		}
		a.keys[id] = all[id]
	}
	return a, nil
}
