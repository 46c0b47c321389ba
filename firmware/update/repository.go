package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"ringfence/firmware/state"
	"ringfence/firmware/update/tuf"
	"ringfence/provisioning/wire/release"
)

// maxProof bounds a log proof, in bytes.
const maxProof = 64 << 10

// Connection is how the repository is reached now.
type Connection struct {
	HTTP *http.Client // authenticates both ends
	Base *url.URL     // of the provisioning service
}

// RepositoryConfig is what a Repository needs. No field has a usable zero value.
type RepositoryConfig struct {
	Trust   *release.Trust
	Dir     string                                    // where verified metadata is kept
	Clock   func() (now time.Time, known bool)        // expiry is judged by a known time only
	Connect func() (connection Connection, err error) // asked before each update
}

// Repository is the Remote over a provisioning service's update repository.
// Not safe for concurrent use.
type Repository struct {
	cfg    RepositoryConfig
	at     Connection
	client *tuf.Client
	target *tuf.Target // the one found last
}

var _ Remote = (*Repository)(nil)

// NewRepository makes no request.
func NewRepository(cfg RepositoryConfig) (*Repository, error) {
	if cfg.Trust == nil || cfg.Dir == "" || cfg.Clock == nil || cfg.Connect == nil {
		return nil, errors.New("update repository: trust, folder, clock and connection are all required")
	}
	return &Repository{cfg: cfg}, nil
}

// Target implements Remote. Each call refreshes the metadata.
func (r *Repository) Target(ctx context.Context, path string) (*Target, error) {
	r.client, r.target = nil, nil
	at, err := r.cfg.Connect()
	if err != nil {
		return nil, err
	}
	client, err := tuf.New(tuf.Config{Root: r.cfg.Trust.Root, Store: metadataStore(r.cfg.Dir), Clock: r.cfg.Clock, HTTP: at.HTTP,
		MetadataURL: at.Base.JoinPath(release.PathMetadata).String(), TargetsURL: at.Base.JoinPath(release.PathTargets).String()})
	if err != nil {
		return nil, refuse("metadata", "%w", err)
	}
	if err := client.Refresh(ctx); err != nil {
		return nil, judged(err)
	}
	found, err := client.Target(ctx, path)
	if err != nil {
		return nil, judged(err)
	}
	t := &Target{Path: path, Length: found.Length}
	if copy(t.SHA256[:], found.Hashes["sha256"]) != len(t.SHA256) {
		return nil, refuse("metadata", "target %q has no SHA-256", path)
	}
	custom, err := release.ParseCustom(found.Custom)
	if err != nil {
		return nil, refuse("metadata", "%w", err)
	}
	t.Custom = *custom
	r.at, r.client, r.target = at, client, found
	return t, nil
}

// judged tells a repository that is wrong from one that is out of reach.
func judged(err error) error {
	var network *url.Error
	switch {
	case errors.As(err, &network) || errors.Is(err, context.Canceled) || errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case errors.Is(err, tuf.ErrExpired):
		return refuse("expired", "%w", err)
	}
	return refuse("metadata", "%w", err)
}

// Proof implements Remote.
func (r *Repository) Proof(ctx context.Context, path string) ([]byte, error) {
	if r.client == nil {
		return nil, errors.New("proof of a target that was not looked up")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.at.Base.JoinPath(release.PathProofs, path).String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := r.at.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, refuse("log", "the repository has no log proof of %q", path)
	default:
		return nil, fmt.Errorf("fetch log proof: HTTP status %d", resp.StatusCode)
	}
	proof, err := io.ReadAll(io.LimitReader(resp.Body, maxProof+1))
	if err != nil {
		return nil, fmt.Errorf("fetch log proof: %w", err)
	}
	if len(proof) > maxProof {
		return nil, refuse("log", "log proof of more than %d bytes", maxProof)
	}
	return proof, nil
}

// Download implements Remote.
func (r *Repository) Download(ctx context.Context, t *Target, dst io.Writer, have io.Reader) error {
	if r.target == nil || r.target.Path != t.Path {
		return errors.New("download of a target that was not looked up")
	}
	err := r.client.Download(ctx, r.target, dst, have)
	if errors.Is(err, tuf.ErrMismatch) {
		return refuse("digest", "%w", err)
	}
	return err
}

// LogVerifier is the Verifier by the image's release trust.
type LogVerifier struct{ Trust *release.Trust }

var _ Verifier = LogVerifier{}

// VerifyProof implements Verifier.
func (v LogVerifier) VerifyProof(proof []byte, entry release.Entry) error {
	if v.Trust == nil {
		return errors.New("no release trust")
	}
	return release.VerifyProof(proof, entry, v.Trust)
}

// metadataStore keeps TUF metadata in a folder.
type metadataStore string

const maxMetadata = 8 << 20

func (m metadataStore) path(name string) string { return filepath.Join(string(m), "tuf-"+name) }

func (m metadataStore) Load(name string) ([]byte, error) {
	return state.Read(m.path(name), maxMetadata)
}

func (m metadataStore) Save(name string, data []byte) error { return state.Write(m.path(name), data) }
