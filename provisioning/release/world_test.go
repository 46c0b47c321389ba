package release

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
	wire "ringfence/provisioning/wire/release"
)

// memoryLog stands for the release log, which has its own tests.
type memoryLog struct{ entries []wire.Entry }

func (l *memoryLog) Append(_ context.Context, e wire.Entry) ([]byte, error) {
	l.entries = append(l.entries, e)
	return fmt.Appendf(nil, "proof of %s\n", e.Target), nil
}

// world is a repository with its people.
type world struct {
	t       testing.TB
	dir     string
	repo    *Repository
	signers map[string]*Signer // by person
	release *ecdsa.PrivateKey  // of the reference values
	log     memoryLog
	now     time.Time
	first   []byte // root version 1
}

func password() ([]byte, error) { return []byte("secret"), nil }

func (w *world) person(name string) Person {
	w.t.Helper()
	if w.signers[name] == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			w.t.Fatal(err)
		}
		s, err := signature.LoadSigner(key, crypto.SHA256)
		if err != nil {
			w.t.Fatal(err)
		}
		if w.signers[name], err = newSigner(s); err != nil {
			w.t.Fatal(err)
		}
	}
	return Person{Name: name, Key: w.signers[name].public}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// onlineKeys are made once: encrypting a key takes its time.
var onlineKeys = sync.OnceValue(func() map[string][2][]byte {
	keys := map[string][2][]byte{}
	for _, name := range []string{"snapshot", "timestamp", "timestamp2"} {
		private, public, err := NewKey([]byte("secret"))
		if err != nil {
			panic(err)
		}
		keys[name] = [2][]byte{private, public}
	}
	return keys
})

// keyFile puts an encrypted key file into the repository's folder.
func (w *world) keyFile(name string) Person {
	w.t.Helper()
	private, public := onlineKeys()[name][0], onlineKeys()[name][1]
	w.must(os.WriteFile(filepath.Join(w.dir, name+".key"), private, 0o600))
	key, err := ParsePublicPEM(public)
	w.must(err)
	return Person{Name: name, Key: key}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), signers: map[string]*Signer{}, now: time.Now()}
	var err error
	w.release, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	snapshot, timestamp := w.keyFile("snapshot"), w.keyFile("timestamp")
	w.repo, err = Create(w.dir, Settings{Schema: 1, Snapshot: "snapshot.key", Timestamp: "timestamp.key"})
	w.must(err)
	p, err := NewSetup(Setup{
		Owners:   []Person{w.person("olga"), w.person("omar"), w.person("otto")},
		Snapshot: snapshot, Timestamp: timestamp, Now: w.now,
		Delegations: []Delegation{{Manufacturer: "acme", Model: "virt64", Threshold: 2,
			Signers: []Person{w.person("dora"), w.person("erin"), w.person("finn")}}},
	})
	w.must(err)
	w.must(w.publish(w.sign(p, "olga", "omar"), nil))
	w.first, err = w.repo.Root()
	w.must(err)
	return w
}

// sign passes the proposal as a file from person to person.
func (w *world) sign(p *Proposal, names ...string) *Proposal {
	w.t.Helper()
	for _, name := range names {
		raw, err := p.Marshal()
		w.must(err)
		p, err = ParseProposal(raw)
		w.must(err)
		if err := p.Sign(w.signers[name], nil); err != nil {
			w.t.Fatalf("%s signs: %v", name, err)
		}
	}
	return p
}

func (w *world) publish(p *Proposal, image []byte) error {
	return w.repo.Publish(w.t.Context(), p, Publication{Image: image, Log: &w.log, Password: password, Now: w.now})
}

// image is the content of the image of a version.
func image(version string) []byte { return []byte("image " + version) }

func (w *world) reference(version string) []byte {
	w.t.Helper()
	ref := &wire.Reference{Schema: 1, Release: version, Model: device.Model("virt64"), Image: evidence.Digest(sum(image(version))),
		PCRs: map[int]evidence.Digest{}, Components: []wire.Component{{Name: "kernel"}}, BootEntry: []string{`\EFI\phone\a.efi`}}
	for _, i := range wire.ExactPCRs {
		ref.PCRs[i] = evidence.Digest{}
	}
	raw, err := wire.SignReference(ref, w.release)
	w.must(err)
	return raw
}

func (w *world) propose(version string, sequence uint64) (*Proposal, error) {
	return w.repo.ProposeRelease(Release{Manufacturer: "acme", Model: "virt64", Hardware: []string{"a"}, Version: version, Sequence: sequence,
		Image: image(version), Reference: w.reference(version), ReferenceKey: w.release.Public(), Now: w.now})
}

// released publishes a version, signed by dora and erin.
func (w *world) released(version string, sequence uint64) {
	w.t.Helper()
	p, err := w.propose(version, sequence)
	w.must(err)
	w.must(w.publish(w.sign(p, "dora", "erin"), image(version)))
}

func target(version string) string { return "acme/virt64/" + version + "/phone.efi" }

// judge asks go-tuf's own client for a target, from the given root on and at the given time.
func (w *world) judge(root []byte, name string, at time.Time) error {
	w.t.Helper()
	handler, closer, err := Handler(w.dir)
	w.must(err)
	defer closer()
	server := httptest.NewServer(handler)
	defer server.Close()
	cfg, err := config.New(server.URL+wire.PathMetadata, root)
	w.must(err)
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = w.t.TempDir(), w.t.TempDir()
	cfg.RemoteTargetsURL, cfg.PrefixTargetsWithHash = server.URL+wire.PathTargets, true
	up, err := updater.New(cfg)
	w.must(err)
	up.UnsafeSetRefTime(at)
	if err := up.Refresh(); err != nil {
		return err
	}
	info, err := up.GetTargetInfo(name)
	if err != nil {
		return err
	}
	_, _, err = up.DownloadTarget(info, "", "")
	return err
}
