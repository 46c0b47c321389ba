package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"ringfence/provisioning/wire"
)

// Folders and files of a repository.
const (
	metadataDir  = "metadata"
	targetsDir   = "targets"
	proofsDir    = "proofs"
	settingsFile = "repository.json"
	lockFile     = ".lock"
)

// Settings of a repository, kept in repository.json.
type Settings struct {
	Schema         int    `json:"schema"`          // 1
	Snapshot       string `json:"snapshot"`        // key reference, see OpenSigner; a file is relative to the repository
	Timestamp      string `json:"timestamp"`       // likewise
	SnapshotDays   int    `json:"snapshot_days"`   // lifetime, 0 means 7
	TimestampHours int    `json:"timestamp_hours"` // lifetime, 0 means 24
}

func (s *Settings) validate() error {
	if s.Schema != 1 || s.Snapshot == "" || s.Timestamp == "" {
		return errors.New("repository settings lack the online keys, or are not of schema 1")
	}
	if s.SnapshotDays == 0 {
		s.SnapshotDays = 7
	}
	if s.TimestampHours == 0 {
		s.TimestampHours = 24
	}
	if s.SnapshotDays < 1 || s.SnapshotDays > 90 || s.TimestampHours < 1 || s.TimestampHours > 24*14 {
		return errors.New("repository settings: want 1 to 90 snapshot_days and 1 to 336 timestamp_hours")
	}
	return nil
}

// Repository is a folder with an update repository. One process at a time
// publishes; readers need no lock, since every file but timestamp.json is
// written once and timestamp.json is replaced as a whole, last. A Repository
// itself is not safe for concurrent use.
type Repository struct {
	dir      string
	settings Settings
	online   map[string]*Signer // online keys that were opened, by reference
}

// Create makes the folders of a repository and its settings.
func Create(dir string, s Settings) (*Repository, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, settingsFile)); err == nil {
		return nil, fmt.Errorf("%s is a repository already", dir)
	}
	for _, sub := range []string{metadataDir, targetsDir, proofsDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, settingsFile), append(raw, '\n')); err != nil {
		return nil, err
	}
	return Open(dir)
}

// Open reads the settings of a repository.
func Open(dir string) (*Repository, error) {
	raw, err := readBounded(filepath.Join(dir, settingsFile), maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("%w (make a repository with: ringfence release init)", err)
	}
	r := &Repository{dir: dir, online: map[string]*Signer{}}
	if err := wire.DecodeStrict(raw, maxKeyFile, &r.settings); err != nil {
		return nil, fmt.Errorf("read %s: %w", settingsFile, err)
	}
	return r, r.settings.validate()
}

// state is what a repository has published. All is nil before the first.
type state struct {
	root       *metadata.Metadata[metadata.RootType]
	rootRaw    json.RawMessage
	targets    *metadata.Metadata[metadata.TargetsType]
	targetsRaw json.RawMessage
	roles      map[string]*metadata.Metadata[metadata.TargetsType]
	rolesRaw   map[string]json.RawMessage
	snapshot   *metadata.Metadata[metadata.SnapshotType]
	timestamp  *metadata.Metadata[metadata.TimestampType]
}

func (r *Repository) metadataFile(version int64, role string) string {
	name := role + ".json"
	if role != metadata.TIMESTAMP {
		name = strconv.FormatInt(version, 10) + "." + name
	}
	return filepath.Join(r.dir, metadataDir, name)
}

// load reads what timestamp.json says is in force.
func (r *Repository) load() (*state, error) {
	st := &state{roles: map[string]*metadata.Metadata[metadata.TargetsType]{}, rolesRaw: map[string]json.RawMessage{}}
	raw, err := os.ReadFile(r.metadataFile(0, metadata.TIMESTAMP))
	if errors.Is(err, os.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return nil, err
	}
	if st.timestamp, err = metadata.Timestamp().FromBytes(raw); err != nil {
		return nil, fmt.Errorf("read timestamp: %w", err)
	}
	meta := st.timestamp.Signed.Meta["snapshot.json"]
	if meta == nil {
		return nil, fmt.Errorf("read timestamp: %w", errShape)
	}
	if raw, err = os.ReadFile(r.metadataFile(meta.Version, metadata.SNAPSHOT)); err != nil {
		return nil, err
	}
	if st.snapshot, err = metadata.Snapshot().FromBytes(raw); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if err := r.loadRoot(st); err != nil {
		return nil, err
	}
	for name, m := range st.snapshot.Signed.Meta {
		role := strings.TrimSuffix(name, ".json")
		if m == nil {
			return nil, fmt.Errorf("read snapshot: %w", errShape)
		}
		raw, err := os.ReadFile(r.metadataFile(m.Version, role))
		if err != nil {
			return nil, err
		}
		md, err := decodeTargets(raw)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if role == metadata.TARGETS {
			st.targets, st.targetsRaw = md, raw
		} else {
			st.roles[role], st.rolesRaw[role] = md, raw
		}
	}
	if st.targets == nil {
		return nil, errors.New("the snapshot lists no targets")
	}
	return st, nil
}

// loadRoot reads the newest root.
func (r *Repository) loadRoot(st *state) error {
	for version := int64(1); ; version++ {
		raw, err := os.ReadFile(r.metadataFile(version, metadata.ROOT))
		if errors.Is(err, os.ErrNotExist) && version > 1 {
			return nil
		}
		if err != nil {
			return err
		}
		root, err := decodeRoot(raw)
		if err != nil {
			return fmt.Errorf("read root %d: %w", version, err)
		}
		if st.root != nil {
			if err := st.root.VerifyDelegate(metadata.ROOT, root); err != nil {
				return fmt.Errorf("root %d: %w", version, err)
			}
		}
		st.root, st.rootRaw = root, raw
	}
}

// Root is the newest root metadata, for the trust document of an image.
func (r *Repository) Root() (json.RawMessage, error) {
	st, err := r.load()
	if err != nil {
		return nil, err
	}
	if st.root == nil {
		return nil, errors.New("the repository has no root yet: publish its setup first")
	}
	return st.rootRaw, nil
}

// Refresh signs a new timestamp, and a new snapshot when the old one has less
// than half of its life left. It is to be run well within timestamp_hours.
func (r *Repository) Refresh(ctx context.Context, password Password, now time.Time) error {
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	st, err := r.load()
	if err != nil {
		return err
	}
	if st.timestamp == nil {
		return errors.New("the repository has published nothing yet")
	}
	online, err := r.openOnline(ctx, st.root, password)
	if err != nil {
		return err
	}
	return r.writeOnline(st, online, st.snapshot.Signed.Expires.Sub(now) < r.snapshotLife()/2, now)
}

func (r *Repository) snapshotLife() time.Duration {
	return time.Duration(r.settings.SnapshotDays) * 24 * time.Hour
}

// online are the keys of the service.
type online struct{ snapshot, timestamp *Signer }

func (r *Repository) openOnline(ctx context.Context, root *metadata.Metadata[metadata.RootType], password Password) (*online, error) {
	open := func(role, ref string) (*Signer, error) {
		if !strings.Contains(ref, "://") && !filepath.IsAbs(ref) {
			ref = filepath.Join(r.dir, ref)
		}
		s := r.online[ref]
		if s == nil {
			var err error
			if s, err = OpenSigner(ctx, ref, password); err != nil {
				return nil, err
			}
			r.online[ref] = s
		}
		a, err := rootAuthority(&root.Signed, role)
		if err == nil && a.keys[s.id] == nil {
			err = fmt.Errorf("key %.8s of the settings is not the root's key for %s", s.id, role)
		}
		return s, err
	}
	snapshot, err := open(metadata.SNAPSHOT, r.settings.Snapshot)
	if err != nil {
		return nil, err
	}
	timestamp, err := open(metadata.TIMESTAMP, r.settings.Timestamp)
	return &online{snapshot, timestamp}, err
}

// writeOnline writes the next snapshot, if wanted, and then the next timestamp.
func (r *Repository) writeOnline(st *state, o *online, newSnapshot bool, now time.Time) error {
	if newSnapshot {
		next := metadata.Snapshot(expiry(now, r.snapshotLife()))
		if st.snapshot != nil {
			next.Signed.Version = st.snapshot.Signed.Version + 1
		}
		next.Signed.Meta["targets.json"] = &metadata.MetaFiles{Version: st.targets.Signed.Version}
		for role, md := range st.roles {
			next.Signed.Meta[role+".json"] = &metadata.MetaFiles{Version: md.Signed.Version}
		}
		if err := signOnline(next, o.snapshot); err != nil {
			return err
		}
		st.snapshot = next
		if err := writeMetadata(r.metadataFile(next.Signed.Version, metadata.SNAPSHOT), next); err != nil {
			return err
		}
	}
	raw, err := os.ReadFile(r.metadataFile(st.snapshot.Signed.Version, metadata.SNAPSHOT))
	if err != nil {
		return err
	}
	next := metadata.Timestamp(expiry(now, time.Duration(r.settings.TimestampHours)*time.Hour))
	if st.timestamp != nil {
		next.Signed.Version = st.timestamp.Signed.Version + 1
	}
	next.Signed.Meta["snapshot.json"] = &metadata.MetaFiles{Version: st.snapshot.Signed.Version, Length: int64(len(raw)),
		Hashes: metadata.Hashes{"sha256": sum(raw)}}
	if err := signOnline(next, o.timestamp); err != nil {
		return err
	}
	return writeMetadata(r.metadataFile(0, metadata.TIMESTAMP), next)
}

func signOnline[T metadata.Roles](md *metadata.Metadata[T], s *Signer) error {
	if _, err := md.Sign(s.signer); err != nil {
		return fmt.Errorf("sign with online key %.8s: %w", s.id, err)
	}
	return nil
}

func writeMetadata[T metadata.Roles](name string, md *metadata.Metadata[T]) error {
	raw, err := md.ToBytes(false)
	if err != nil {
		return err
	}
	return writeFile(name, raw)
}
