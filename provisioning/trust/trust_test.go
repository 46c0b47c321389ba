package trust

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/ca"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/factory"
	"ringfence/provisioning/wire/release"
)

type memory struct {
	makers []*Manufacturer
	refs   []*Reference
}

func (m *memory) Manufacturers(context.Context) ([]*Manufacturer, error) { return m.makers, nil }
func (m *memory) PutManufacturer(_ context.Context, x *Manufacturer) error {
	m.makers = append(m.makers, x)
	return nil
}
func (m *memory) References(context.Context, device.Model) ([]*Reference, error) { return m.refs, nil }
func (m *memory) PutReference(_ context.Context, r *Reference) error {
	m.refs = append(m.refs, r)
	return nil
}

type signer struct{ *ecdsa.PrivateKey }

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	return s.PrivateKey.Sign(rand.Reader, digest[:], crypto.SHA256)
}
func (s signer) KeyID() (string, error) { return dsse.SHA256KeyID(s.Public()) }

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newTrust(t *testing.T, key *ecdsa.PrivateKey) (*Trust, *memory, []byte) {
	t.Helper()
	root, err := ca.NewRoot("maker", key, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	store := new(memory)
	tr, err := New(store)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Add(t.Context(), &Manufacturer{"Maker", pub, [][]byte{root.Certificate().Raw}}); err != nil {
		t.Fatal(err)
	}
	return tr, store, root.Certificate().Raw
}

func TestReferences(t *testing.T) {
	key, ctx := newKey(t), t.Context()
	tr, store, _ := newTrust(t, key)
	ref := appraisetest.Reference(appraisetest.Good(), "1.0.0")
	foreign, err := release.SignReference(ref, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.ImportReference(ctx, foreign); err == nil {
		t.Error("reference values of a foreign key were imported")
	}
	good, err := release.SignReference(ref, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.ImportReference(ctx, good); err != nil {
		t.Fatal(err)
	}
	if refs, err := tr.References(ctx, "Maker", "virt64"); len(refs) != 1 || err != nil {
		t.Errorf("References = %d, %v", len(refs), err)
	}
	known := store.makers[0]
	other, err := x509.MarshalPKIXPublicKey(newKey(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	store.makers[0] = &Manufacturer{known.Name, other, known.Anchors}
	if _, err := tr.References(ctx, "Maker", "virt64"); err == nil {
		t.Error("references that were verified with one release key pass with another")
	}
	store.makers[0] = known
	store.refs[0].Envelope = foreign // somebody changed the database
	if _, err := tr.References(ctx, "Maker", "virt64"); err == nil {
		t.Error("changed reference values were used")
	}
}

func TestManifest(t *testing.T) {
	key, ctx := newKey(t), t.Context()
	tr, _, anchor := newTrust(t, key)
	encode := func(name string, anchor []byte) []byte {
		text, err := (&factory.Manifest{Manufacturer: name, Created: time.Now(), Anchors: [][]byte{anchor}, Units: []factory.Unit{{Device: "RF-0001"}}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	sign := func(key *ecdsa.PrivateKey, kind string) []byte {
		es, err := dsse.NewEnvelopeSigner(signer{key})
		if err != nil {
			t.Fatal(err)
		}
		env, err := es.SignPayload(ctx, kind, encode("Maker", anchor))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, c := range []struct {
		name   string
		raw    []byte
		signed bool
		want   string
	}{
		{"bare", encode("Maker", anchor), false, ""},
		{"signed", sign(key, factory.ManifestType), true, ""},
		{"foreign signature", sign(newKey(t), factory.ManifestType), false, "accepted"},
		{"other payload", sign(key, release.ReferenceType), false, "payload type"},
		{"unknown manufacturer", encode("Nobody", anchor), false, "not known"},
		{"unknown anchor", encode("Maker", []byte("x")), false, "anchor"},
		{"not JSON", []byte("x"), false, "parse"},
	} {
		m, signed, err := tr.VerifyManifest(ctx, c.raw)
		if (err == nil) != (c.want == "") || signed != c.signed || err == nil && m == nil {
			t.Errorf("%s: %v, signed %t, want %q", c.name, err, signed, c.want)
		}
		if err != nil && !strings.Contains(strings.ToLower(err.Error()), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}
