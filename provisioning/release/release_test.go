package release

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	wire "ringfence/provisioning/wire/release"
)

func TestTwoPeopleRelease(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	if err := w.judge(w.first, target("1.1.0"), w.now); err != nil {
		t.Errorf("go-tuf's client: %v", err)
	}
	if len(w.log.entries) != 1 || w.log.entries[0].Sequence != 2 || w.log.entries[0].Length != int64(len(image("1.1.0"))) {
		t.Errorf("log has %v, want the one release", w.log.entries)
	}
	proof, err := os.ReadFile(filepath.Join(w.dir, "proofs", target("1.1.0")))
	if err != nil || !strings.Contains(string(proof), target("1.1.0")) {
		t.Errorf("proof = %q, %v", proof, err)
	}
	list, err := w.repo.Released()
	if err != nil || len(list) != 1 || len(list[0].Bundles) != 2 {
		t.Errorf("Released = %v, %v, want one with two bundles", list, err)
	}
}

func TestNobodyPublishesAlone(t *testing.T) {
	w := newWorld(t)
	p, err := w.propose("1.1.0", 2)
	w.must(err)
	p = w.sign(p, "dora")
	if err := w.publish(p, image("1.1.0")); !errors.Is(err, ErrIncomplete) {
		t.Errorf("publish with one signature = %v, want ErrIncomplete", err)
	}
	if err := p.Sign(w.signers["dora"], nil); err == nil {
		t.Error("the same person signed twice")
	}
	if err := p.Sign(w.signers["olga"], nil); err == nil {
		t.Error("an owner signed for the manufacturer")
	}
	if err := w.judge(w.first, target("1.1.0"), w.now); err == nil {
		t.Error("the refused release is visible")
	}
	if len(w.log.entries) != 0 {
		t.Error("the refused release is in the log")
	}
	w.must(w.publish(w.sign(p, "finn"), image("1.1.0")))
}

func TestOneHumanWithTwoKeys(t *testing.T) {
	w := newWorld(t)
	dora, again := w.person("dora"), w.person("dora's other key")
	again.Name = " Dora"
	_, err := w.repo.ProposeSigners("acme", "virt32", 2, Change{Add: []Person{dora, again}, Now: w.now})
	if err == nil || !strings.Contains(err.Error(), "different people") {
		t.Errorf("ProposeSigners = %v, want a refusal of one human with two keys", err)
	}
	again.Name, again.Key = "erika", dora.Key
	if _, err = w.repo.ProposeSigners("acme", "virt32", 2, Change{Add: []Person{dora, again}, Now: w.now}); err == nil {
		t.Error("one key was accepted for two people")
	}
	if _, err = w.repo.ProposeSigners("acme", "virt32", 1, Change{Add: []Person{dora}, Now: w.now}); err == nil {
		t.Error("a threshold of 1 was accepted")
	}
}

// edit changes the proposed delegated document, as an attacker with the file would.
func edit(w *world, p *Proposal, change func(*metadata.TargetsType)) {
	w.t.Helper()
	for i, d := range p.Documents {
		md, err := metadata.Targets().FromBytes(d.Metadata)
		w.must(err)
		change(&md.Signed)
		raw, err := md.ToBytes(false)
		w.must(err)
		p.Documents[i].Metadata = raw
	}
}

func TestPublishRefuses(t *testing.T) {
	tests := map[string]struct {
		damage func(w *world, p *Proposal)
		image  []byte
		noLog  bool
	}{
		"changed after the second signature": {damage: func(w *world, p *Proposal) {
			edit(w, p, func(t *metadata.TargetsType) { t.Expires = t.Expires.Add(time.Hour) })
		}},
		"another image":  {image: []byte("image 1.1.1")},
		"no release log": {noLog: true},
		"bundle missing": {damage: func(w *world, p *Proposal) { delete(p.Image.Bundles, w.signers["erin"].ID()) }},
		"bundle of another signer": {damage: func(w *world, p *Proposal) {
			p.Image.Bundles[w.signers["erin"].ID()] = p.Image.Bundles[w.signers["dora"].ID()]
		}},
		"other reference values": {damage: func(w *world, p *Proposal) { p.Image.Reference = w.reference("1.1.0") }},
		"base is older": {damage: func(w *world, p *Proposal) {
			other, err := w.propose("1.0.5", 1)
			w.must(err)
			w.must(w.publish(w.sign(other, "dora", "finn"), image("1.0.5")))
		}},
		"second target hidden in it": {damage: func(w *world, p *Proposal) {
			edit(w, p, func(t *metadata.TargetsType) { t.Targets["acme/virt64/1.1.0/x"] = targetFile([]byte("x"), nil) })
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p, err := w.propose("1.1.0", 2)
			w.must(err)
			p = w.sign(p, "dora", "erin")
			if tt.damage != nil {
				tt.damage(w, p)
			}
			pub := Publication{Image: image("1.1.0"), Log: &w.log, Password: password, Now: w.now}
			if tt.image != nil {
				pub.Image = tt.image
			}
			if tt.noLog {
				pub.Log = nil
			}
			if err := w.repo.Publish(t.Context(), p, pub); err == nil {
				t.Error("Publish = nil, want a refusal")
			}
			if w.judge(w.first, target("1.1.0"), w.now) == nil {
				t.Error("the refused release is visible")
			}
		})
	}
}

func TestSignRefusesHiddenTarget(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	tests := map[string]func(*metadata.TargetsType){
		"new target":     func(t *metadata.TargetsType) { t.Targets["acme/virt64/1.2.0/x"] = targetFile([]byte("x"), nil) },
		"changed target": func(t *metadata.TargetsType) { t.Targets[target("1.1.0")].Hashes["sha256"] = sum([]byte("x")) },
		"dropped target": func(t *metadata.TargetsType) { delete(t.Targets, target("1.1.0")) },
		"delegation":     func(t *metadata.TargetsType) { t.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}} },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := w.propose("1.2.0", 3)
			w.must(err)
			edit(w, p, change)
			if err := p.Sign(w.signers["erin"], nil); err == nil {
				t.Error("Sign = nil, want a refusal")
			}
		})
	}
}

func TestSequenceAndPath(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 5)
	for _, tt := range []struct {
		version  string
		sequence uint64
	}{{"1.2.0", 5}, {"1.2.0", 4}, {"1.0.9", 6}, {"1.1.0", 6}, {"1.2.0", 0}} {
		if _, err := w.propose(tt.version, tt.sequence); err == nil {
			t.Errorf("release %s with sequence %d accepted after 1.1.0 with 5", tt.version, tt.sequence)
		}
	}
	if _, err := w.repo.ProposeRelease(Release{Manufacturer: "acme", Model: "virt32", Hardware: []string{"a"}, Version: "1.2.0", Sequence: 6,
		Image: image("1.2.0"), Reference: w.reference("1.2.0"), ReferenceKey: w.release.Public(), Now: w.now}); err == nil {
		t.Error("a release for a model without signers was accepted")
	}
}

// A target that two signers of acme/virt64 put under another model's path is
// invisible to clients, also when a broken server publishes it.
func TestWrongModelPath(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	st, err := w.repo.load()
	w.must(err)
	md := st.nextRole("acme-virt64", w.now)
	md.Signed.Targets["acme/virt32/1.1.0/phone.efi"] = md.Signed.Targets[target("1.1.0")]
	for _, name := range []string{"dora", "erin"} {
		w.must(signOnline(md, w.signers[name]))
	}
	w.force(st, md)
	if err := w.judge(w.first, target("1.1.0"), w.now); err != nil {
		t.Errorf("the model's own target: %v", err)
	}
	if err := w.judge(w.first, "acme/virt32/1.1.0/phone.efi", w.now); err == nil {
		t.Error("a target outside the delegated path was found")
	}
}

// force publishes a delegated document without any check, as a stolen online key could.
func (w *world) force(st *state, md *metadata.Metadata[metadata.TargetsType]) {
	w.t.Helper()
	w.must(writeMetadata(w.repo.metadataFile(md.Signed.Version, "acme-virt64"), md))
	st.roles["acme-virt64"] = md
	keys, err := w.repo.openOnline(w.t.Context(), st.root, password)
	w.must(err)
	w.must(w.repo.writeOnline(st, keys, true, w.now))
}

func TestClientRefusesForced(t *testing.T) {
	tests := map[string][]string{"one signature short": {"dora"}, "the same key twice": {"dora", "dora"}, "an owner instead": {"dora", "olga"}}
	for name, signers := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.released("1.1.0", 2)
			st, err := w.repo.load()
			w.must(err)
			md := st.nextRole("acme-virt64", w.now)
			for _, s := range signers {
				w.must(signOnline(md, w.signers[s]))
			}
			w.force(st, md)
			if err := w.judge(w.first, target("1.1.0"), w.now); err == nil {
				t.Error("go-tuf's client accepted it")
			}
		})
	}
}

func TestRotationsAreSkipped(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	for i, change := range []Change{
		{Remove: []string{"olga"}, Add: []Person{w.person("oona")}},
		{Remove: []string{"omar"}, Add: []Person{w.person("oskar")}},
	} {
		change.Now = w.now
		p, err := w.repo.ProposeOwners(change)
		w.must(err)
		p = w.sign(p, "otto")
		if err := w.publish(p, nil); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("rotation %d by one owner = %v, want ErrIncomplete", i, err)
		}
		w.must(w.publish(w.sign(p, []string{"omar", "oona"}[i], []string{"oona", "oskar"}[i]), nil))
	}
	w.released("1.2.0", 3)
	if err := w.judge(w.first, target("1.2.0"), w.now); err != nil {
		t.Errorf("a client two rotations behind: %v", err)
	}
	if _, err := w.repo.ProposeOwners(Change{Remove: []string{"otto"}, Now: w.now}); err == nil {
		t.Error("a root with two owners was proposed")
	}
}

// New owners that the old ones have not signed for are refused.
func TestRootNeedsTheOldOwners(t *testing.T) {
	w := newWorld(t)
	p, err := w.repo.ProposeOwners(Change{Remove: []string{"olga", "omar", "otto"},
		Add: []Person{w.person("eve"), w.person("mallory"), w.person("trudy")}, Now: w.now})
	w.must(err)
	p = w.sign(p, "eve", "mallory", "trudy")
	if err := w.publish(p, nil); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Publish = %v, want ErrIncomplete", err)
	}
	w.must(w.publish(w.sign(p, "olga", "omar"), nil))
}

func TestRevokedSigner(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	stale, err := w.propose("1.2.0", 3)
	w.must(err)
	stale = w.sign(stale, "dora", "erin")
	p, err := w.repo.ProposeSigners("acme", "virt64", 0, Change{Remove: []string{"erin"}, Add: []Person{w.person("gina")}, Now: w.now})
	w.must(err)
	w.must(w.publish(w.sign(p, "olga", "otto", "finn", "gina"), nil))
	if err := w.judge(w.first, target("1.1.0"), w.now); err != nil {
		t.Errorf("the release before the revocation, signed anew: %v", err)
	}
	if err := w.publish(stale, image("1.2.0")); err == nil {
		t.Error("a proposal with the revoked signature was published")
	}
	fresh, err := w.propose("1.2.0", 3)
	w.must(err)
	if err := fresh.Sign(w.signers["erin"], nil); err == nil {
		t.Error("the revoked key signed")
	}
	st, err := w.repo.load()
	w.must(err)
	md := st.nextRole("acme-virt64", w.now)
	w.must(errors.Join(signOnline(md, w.signers["dora"]), signOnline(md, w.signers["erin"])))
	w.force(st, md)
	if err := w.judge(w.first, target("1.1.0"), w.now); err == nil {
		t.Error("go-tuf's client accepted a document with a revoked key's signature")
	}
}

func TestExpiry(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	later := w.now.Add(25 * time.Hour)
	if err := w.judge(w.first, target("1.1.0"), later); err == nil {
		t.Error("a frozen mirror was accepted after its timestamp's expiry")
	}
	w.must(w.repo.Refresh(t.Context(), password, later))
	if err := w.judge(w.first, target("1.1.0"), later); err != nil {
		t.Errorf("after Refresh: %v", err)
	}
	much := w.now.Add(6 * 24 * time.Hour) // the snapshot has less than half left
	w.must(w.repo.Refresh(t.Context(), password, much))
	if err := w.judge(w.first, target("1.1.0"), w.now.Add(6*24*time.Hour+20*time.Hour)); err != nil {
		t.Errorf("after Refresh of the snapshot: %v", err)
	}
}

func TestRenewal(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	w.now = w.now.Add(300 * 24 * time.Hour)
	p, err := w.repo.ProposeSigners("acme", "virt64", 0, Change{Now: w.now})
	w.must(err)
	w.must(w.publish(w.sign(p, "olga", "omar", "dora", "finn"), nil))
	later := w.now.Add(100 * 24 * time.Hour) // after the first documents' end
	w.must(w.repo.Refresh(t.Context(), password, later))
	if err := w.judge(w.first, target("1.1.0"), later); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
}

func TestOnlineKeyRotation(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	next := w.keyFile("timestamp2")
	p, err := w.repo.ProposeOnline("timestamp", next, w.now)
	w.must(err)
	p = w.sign(p, "omar", "otto")
	if err := w.publish(p, nil); err == nil {
		t.Error("published with an online key that the new root does not name")
	}
	w.repo.settings.Timestamp = "timestamp2.key"
	w.must(w.publish(p, nil))
	if err := w.judge(w.first, target("1.1.0"), w.now); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
}

// A publication that was cut short can be repeated, wherever it stopped.
func TestPublishAgain(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	p, err := w.repo.ProposeOwners(Change{Remove: []string{"olga"}, Add: []Person{w.person("oona")}, Now: w.now})
	w.must(err)
	p = w.sign(p, "omar", "otto", "oona")
	for _, d := range slices.Backward(p.Documents) { // cut before the snapshot
		w.must(writeFile(w.repo.metadataFile(2, d.Role), d.Metadata))
	}
	w.must(w.publish(p, nil))
	if err := w.judge(w.first, target("1.1.0"), w.now); err != nil {
		t.Error(err)
	}
}

func TestPinnedRoot(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	p, err := w.propose("1.1.0", 2)
	w.must(err)
	if err := p.Sign(w.signers["dora"], other.first); err == nil {
		t.Error("signed a proposal on a root that the signer does not know")
	}
	w.must(p.Sign(w.signers["dora"], w.first))
}

func TestHandlerServesNothingElse(t *testing.T) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	handler, closer, err := Handler(w.dir)
	w.must(err)
	defer closer()
	get := func(path string) int {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		return rec.Code
	}
	for path, want := range map[string]int{
		wire.PathMetadata + "timestamp.json":           200,
		wire.PathMetadata + "1.acme-virt64.json":       200,
		wire.PathProofs + target("1.1.0"):              200,
		wire.PathMetadata + "9.root.json":              404,
		wire.PathMetadata + "..%2Frepository.json":     404,
		wire.PathMetadata + "..%2Fsnapshot.key":        404,
		wire.PathTargets + "..%2F..%2Frepository.json": 404,
		wire.PathTargets + "acme":                      404,
		wire.PathTargets + ".lock":                     404,
		"/repository.json":                             404,
	} {
		if got := get(path); got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
}

func TestShow(t *testing.T) {
	w := newWorld(t)
	p, err := w.propose("1.1.0", 2)
	w.must(err)
	p = w.sign(p, "dora")
	s, err := p.Show()
	w.must(err)
	if s.Complete || s.Documents[0].Has != 1 || s.Documents[0].Needs != 2 || len(s.Documents[0].Signers) != 3 || s.Image.Custom.Sequence != 2 {
		t.Errorf("Show = %+v %+v", s, s.Image)
	}
}

// seeds are a setup and a release on top of it, made without a repository.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	w := &world{t: t, signers: map[string]*Signer{}, now: time.Now()}
	setup, err := NewSetup(Setup{Owners: []Person{w.person("olga"), w.person("omar"), w.person("otto")}, Snapshot: w.person("s"), Timestamp: w.person("t"),
		Now: w.now, Delegations: []Delegation{{Manufacturer: "acme", Model: "virt64", Threshold: 2, Signers: []Person{w.person("dora"), w.person("erin")}}}})
	w.must(err)
	setup = w.sign(setup, "olga", "omar")
	o, err := setup.open()
	w.must(err)
	st := (&state{roles: map[string]*metadata.Metadata[metadata.TargetsType]{}}).after(o)
	st.rootRaw, st.targetsRaw = setup.Documents[0].Metadata, setup.Documents[1].Metadata
	md := st.nextRole("acme-virt64", w.now)
	custom, err := json.Marshal(wire.Custom{Model: "virt64", Hardware: []string{"a"}, Release: "1.1.0", Sequence: 2, Reference: "acme/virt64/1.1.0/r"})
	w.must(err)
	md.Signed.Targets[target("1.1.0")] = targetFile(image("1.1.0"), custom)
	md.Signed.Targets["acme/virt64/1.1.0/r"] = targetFile([]byte("r"), nil)
	p, err := newProposal(st, &Image{Target: target("1.1.0"), Reference: []byte("r")}, nil, nil, map[string]*metadata.Metadata[metadata.TargetsType]{"acme-virt64": md})
	w.must(err)
	var out [][]byte
	for _, p := range []*Proposal{setup, w.sign(p, "dora")} {
		raw, err := p.Marshal()
		w.must(err)
		out = append(out, raw)
	}
	return out
}

func FuzzParseProposal(f *testing.F) {
	for _, raw := range seeds(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParseProposal(raw)
		if err != nil {
			return
		}
		if _, err := json.Marshal(p); err != nil {
			t.Errorf("Marshal of what was parsed: %v", err)
		}
		_, _ = p.Show()
	})
}
