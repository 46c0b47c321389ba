package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"ringfence/provisioning/release"
	"ringfence/provisioning/translog"
	"ringfence/provisioning/translog/notekey"
	"ringfence/provisioning/translog/witness"
	wire "ringfence/provisioning/wire/release"
)

// Updates is a manufacturer's release office: the update repository with its
// people, the release log and a witness.
type Updates struct {
	Dir   string // the repository, which provisiond serves
	Trust string // file of the release trust for images

	repo    *release.Repository
	log     *translog.Log
	signers []*release.Signer
	witness *witness.Witness
	server  *httptest.Server
}

// Maker is the manufacturer's name in target paths.
const Maker = "lab"

func password() ([]byte, error) { return []byte("lab"), nil }

// NewUpdates makes all of it in dir for one model. The caller calls Close.
func NewUpdates(ctx context.Context, dir, model string) (*Updates, error) {
	u := &Updates{Dir: filepath.Join(dir, "repository"), Trust: filepath.Join(dir, "trust.json")}
	if err := os.MkdirAll(u.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := u.openLog(ctx, dir); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	if err := u.openRepository(ctx, model); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, u.writeTrust()
}

func (u *Updates) openLog(ctx context.Context, dir string) error {
	key, err := notekey.Generate("witness.ringfence.test")
	if err != nil {
		return err
	}
	name, err := key.WitnessKey()
	if err != nil {
		return err
	}
	u.server = httptest.NewUnstartedServer(nil)
	site, state := filepath.Join(dir, "log"), filepath.Join(dir, "witness.json")
	logKey, err := translog.Init(site, "log.ringfence.test/releases",
		[]translog.Witness{{Key: name, URL: "http://" + u.server.Listener.Addr().String()}}, 1)
	if err != nil {
		return err
	}
	if err := witness.InitState(state); err != nil {
		return err
	}
	u.witness, err = witness.New(witness.Config{Key: key, Logs: []string{logKey}, State: state, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	u.server.Config.Handler = http.HandlerFunc(u.witness.Handler().ServeHTTP)
	u.server.Start()
	config, err := translog.Load(site)
	if err != nil {
		return err
	}
	u.log, err = translog.Open(ctx, config)
	return err
}

// person makes one human's key.
func (u *Updates) person(ctx context.Context, name string) (release.Person, *release.Signer, error) {
	private, public, err := release.NewKey([]byte("lab"))
	if err != nil {
		return release.Person{}, nil, err
	}
	path := filepath.Join(u.Dir, name+".key")
	if err := os.WriteFile(path, private, 0o600); err != nil {
		return release.Person{}, nil, err
	}
	key, err := release.ParsePublicPEM(public)
	if err != nil {
		return release.Person{}, nil, err
	}
	s, err := release.OpenSigner(ctx, path, password)
	return release.Person{Name: name, Key: key}, s, err
}

func (u *Updates) openRepository(ctx context.Context, model string) error {
	people := map[string]release.Person{}
	keys := map[string]*release.Signer{}
	for _, name := range []string{"olga", "omar", "otto", "dora", "erin", "snapshot", "timestamp"} {
		var err error
		if people[name], keys[name], err = u.person(ctx, name); err != nil {
			return err
		}
	}
	var err error
	if u.repo, err = release.Create(u.Dir, release.Settings{Schema: 1, Snapshot: "snapshot.key", Timestamp: "timestamp.key"}); err != nil {
		return err
	}
	u.signers = []*release.Signer{keys["dora"], keys["erin"]}
	p, err := release.NewSetup(release.Setup{Owners: []release.Person{people["olga"], people["omar"], people["otto"]},
		Snapshot: people["snapshot"], Timestamp: people["timestamp"], Now: time.Now(),
		Delegations: []release.Delegation{{Manufacturer: Maker, Model: model, Threshold: 2, Signers: []release.Person{people["dora"], people["erin"]}}}})
	if err != nil {
		return err
	}
	return u.publish(ctx, p, nil, keys["olga"], keys["omar"])
}

func (u *Updates) publish(ctx context.Context, p *release.Proposal, image []byte, by ...*release.Signer) error {
	for _, s := range by {
		if err := p.Sign(s, nil); err != nil {
			return err
		}
	}
	return u.repo.Publish(ctx, p, release.Publication{Image: image, Log: u.log, Password: password, Now: time.Now()})
}

func (u *Updates) writeTrust() error {
	trust := *u.log.Trust()
	root, err := u.repo.Root()
	if err != nil {
		return err
	}
	trust.Root = root
	raw, err := json.Marshal(trust)
	if err != nil {
		return err
	}
	if _, err := wire.ParseTrust(raw); err != nil {
		return err
	}
	return os.WriteFile(u.Trust, raw, 0o644)
}

// Proposal is a release on its way between its signers.
type Proposal struct {
	Target string // path of the image in the repository

	proposal *release.Proposal
	image    []byte
}

// Propose makes the proposal of an image of m, which nobody has signed yet.
func (u *Updates) Propose(m *Manufacturer, image Image, model, version string, sequence uint64) (*Proposal, error) {
	content, err := os.ReadFile(image.UKI())
	if err != nil {
		return nil, err
	}
	reference, err := os.ReadFile(image.Reference())
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(filepath.Join(m.Dir, "release.pub"))
	if err != nil {
		return nil, err
	}
	key, err := release.ParsePublicPEM(pem)
	if err != nil {
		return nil, err
	}
	p, err := u.repo.ProposeRelease(release.Release{Manufacturer: Maker, Model: model, Hardware: []string{"r1"}, Version: version,
		Sequence: sequence, Image: content, Reference: reference, ReferenceKey: key, Now: time.Now()})
	return &Proposal{fmt.Sprintf("%s/%s/%s/phone.efi", Maker, model, version), p, content}, err
}

// Sign adds the signature of the n-th person who may release for the model.
func (u *Updates) Sign(p *Proposal, n int) error { return p.proposal.Sign(u.signers[n], nil) }

// Enter publishes a proposal: it is refused below the threshold, goes into the
// witnessed log, and is then in the repository.
func (u *Updates) Enter(ctx context.Context, p *Proposal) error {
	return u.repo.Publish(ctx, p.proposal, release.Publication{Image: p.image, Log: u.log, Password: password, Now: time.Now()})
}

// Publish does all of it with two signatures and returns the target path.
func (u *Updates) Publish(ctx context.Context, m *Manufacturer, image Image, model, version string, sequence uint64) (string, error) {
	p, err := u.Propose(m, image, model, version, sequence)
	if err != nil {
		return "", err
	}
	for n := range u.signers {
		if err := u.Sign(p, n); err != nil {
			return "", err
		}
	}
	return p.Target, u.Enter(ctx, p)
}

// Export leaves a release as anybody may check it with cosign or openssl.
func (u *Updates) Export(ctx context.Context, tools Tools, target, dir string) error {
	_, err := Run(ctx, tools.Ringfence, "release", "export", u.Dir, target, "--out", dir)
	return err
}

// Verify checks a published release as a phone does.
func (u *Updates) Verify(ctx context.Context, tools Tools, target string) error {
	_, err := Run(ctx, tools.Ringfence, "release", "verify", u.Dir, target, "--trust", u.Trust)
	return err
}

// Close ends the log and its witness.
func (u *Updates) Close() error {
	var errs []error
	if u.log != nil {
		errs = append(errs, u.log.Close())
	}
	if u.server != nil {
		u.server.Close()
	}
	if u.witness != nil {
		errs = append(errs, u.witness.Close())
	}
	return errors.Join(errs...)
}

// ServeUpdates has the site's provisioning service offer the repository. It
// is for once, and counts from the next start of provisiond on.
func (s *Site) ServeUpdates(dir string) error {
	path := filepath.Join(s.Dir, "provisiond.toml")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(fmt.Appendf(nil, "releases = %q\n", dir), raw...), 0o600)
}
