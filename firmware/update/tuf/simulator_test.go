package tuf

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

// simulator is a repository in memory, which may lie.
type simulator struct {
	t         testing.TB
	keys      map[string][]*ecdsa.PrivateKey // by role
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   map[string]*metadata.Metadata[metadata.TargetsType]
	files     map[string][]byte // by URL path
	requests  []string
	ranges    bool // the server obeys them
	cut       int  // the server ends the body after so many bytes, if > 0
	server    *httptest.Server
	first     []byte
}

func newSimulator(t testing.TB) *simulator {
	t.Helper()
	end := time.Now().Add(30 * 24 * time.Hour).UTC().Truncate(time.Second)
	s := &simulator{t: t, keys: map[string][]*ecdsa.PrivateKey{}, files: map[string][]byte{}, ranges: true,
		root: metadata.Root(end), timestamp: metadata.Timestamp(end), snapshot: metadata.Snapshot(end),
		targets: map[string]*metadata.Metadata[metadata.TargetsType]{"targets": metadata.Targets(end)}}
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		s.rotate(role, 1)
	}
	s.targets["targets"].Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	s.publish()
	s.publishRoot()
	s.first = s.files["metadata/1.root.json"]
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.server.Close)
	return s
}

func (s *simulator) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *simulator) newKey(role string) (*metadata.Key, string) {
	s.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	s.keys[role] = append(s.keys[role], private)
	key, err := metadata.KeyFromPublicKey(private.Public())
	s.must(err)
	id, err := key.ID()
	s.must(err)
	return key, id
}

// rotate gives a top-level role n new keys, all of them needed.
func (s *simulator) rotate(role string, n int) {
	s.keys[role] = nil
	s.root.Signed.Roles[role] = &metadata.Role{Threshold: n}
	for range n {
		key, id := s.newKey(role)
		s.root.Signed.Keys[id] = key
		s.root.Signed.Roles[role].KeyIDs = append(s.root.Signed.Roles[role].KeyIDs, id)
	}
}

// delegate makes a role with n keys, of which all are needed.
func (s *simulator) delegate(role string, n int, terminating bool, paths ...string) {
	d := s.targets["targets"].Signed.Delegations
	r := metadata.DelegatedRole{Name: role, Threshold: n, Terminating: terminating, Paths: paths}
	for range n {
		key, id := s.newKey(role)
		d.Keys[id] = key
		r.KeyIDs = append(r.KeyIDs, id)
	}
	d.Roles = append(d.Roles, r)
	s.targets[role] = metadata.Targets(s.root.Signed.Expires)
}

func (s *simulator) sign(role string, body any) []metadata.Signature {
	s.t.Helper()
	return s.signWith(s.keys[role], body)
}

func (s *simulator) signWith(keys []*ecdsa.PrivateKey, body any) []metadata.Signature {
	s.t.Helper()
	payload, err := cjson.EncodeCanonical(body)
	s.must(err)
	digest := sha256.Sum256(payload)
	var out []metadata.Signature
	for _, private := range keys {
		sig, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
		s.must(err)
		key, err := metadata.KeyFromPublicKey(private.Public())
		s.must(err)
		id, err := key.ID()
		s.must(err)
		out = append(out, metadata.Signature{KeyID: id, Signature: sig})
	}
	return out
}

// publishRoot signs the root with its own keys and those given, and serves it.
func (s *simulator) publishRoot(old ...*ecdsa.PrivateKey) {
	s.t.Helper()
	s.root.Signatures = s.signWith(append(old, s.keys["root"]...), s.root.Signed)
	raw, err := s.root.ToBytes(false)
	s.must(err)
	s.files[fmt.Sprintf("metadata/%d.root.json", s.root.Signed.Version)] = raw
}

// publish signs and serves everything but the root as it stands.
func (s *simulator) publish() {
	s.t.Helper()
	for role, md := range s.targets {
		md.Signatures = s.sign(role, md.Signed)
		raw, err := md.ToBytes(false)
		s.must(err)
		s.files[fmt.Sprintf("metadata/%d.%s.json", md.Signed.Version, role)] = raw
		s.snapshot.Signed.Meta[role+".json"] = &metadata.MetaFiles{Version: md.Signed.Version}
	}
	s.publishOnline()
}

func (s *simulator) publishOnline() {
	s.t.Helper()
	s.snapshot.Signatures = s.sign("snapshot", s.snapshot.Signed)
	raw, err := s.snapshot.ToBytes(false)
	s.must(err)
	s.files[fmt.Sprintf("metadata/%d.snapshot.json", s.snapshot.Signed.Version)] = raw
	if m := s.timestamp.Signed.Meta["snapshot.json"]; m != nil {
		m.Version = s.snapshot.Signed.Version
	}
	s.publishTimestamp()
}

func (s *simulator) publishTimestamp() {
	s.t.Helper()
	s.timestamp.Signatures = s.sign("timestamp", s.timestamp.Signed)
	raw, err := s.timestamp.ToBytes(false)
	s.must(err)
	s.files["metadata/timestamp.json"] = raw
}

// bump makes the next version of the online documents and of the role.
func (s *simulator) bump(role string) {
	s.timestamp.Signed.Version++
	s.snapshot.Signed.Version++
	s.targets[role].Signed.Version++
}

func (s *simulator) add(role, name string, content []byte) {
	digest := sha256.Sum256(content)
	s.targets[role].Signed.Targets[name] = &metadata.TargetFiles{Length: int64(len(content)), Hashes: metadata.Hashes{"sha256": digest[:]}}
	dir, base := "", name
	if i := strings.LastIndex(name, "/"); i >= 0 {
		dir, base = name[:i+1], name[i+1:]
	}
	s.files["targets/"+dir+hex.EncodeToString(digest[:])+"."+base] = content
}

func (s *simulator) serve(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	s.requests = append(s.requests, strings.TrimPrefix(strings.TrimSuffix(name, ".json"), "metadata/"))
	data, ok := s.files[name]
	switch {
	case !ok:
		http.NotFound(w, r)
	case s.cut > 0:
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:s.cut])
	case s.ranges:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	default:
		_, _ = w.Write(data)
	}
}

// peer refreshes go-tuf's own client on its folder.
func (s *simulator) peer(dir string) error {
	s.t.Helper()
	root, err := os.ReadFile(filepath.Join(dir, "root.json"))
	if err != nil {
		root = s.first
	}
	cfg, err := config.New(s.server.URL+"/metadata", root)
	s.must(err)
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = dir, dir
	up, err := updater.New(cfg)
	s.must(err)
	return up.Refresh()
}

func at(t time.Time) Clock { return func() (time.Time, bool) { return t, true } }

func unknown() (time.Time, bool) { return time.Time{}, false }

func (s *simulator) client(dir string, clock Clock) *Client {
	s.t.Helper()
	c, err := New(Config{Root: s.first, Store: Dir(dir), Clock: clock, HTTP: s.server.Client(),
		MetadataURL: s.server.URL + "/metadata", TargetsURL: s.server.URL + "/targets/"})
	s.must(err)
	return c
}

// refresh is a new client's Refresh on the store, now.
func (s *simulator) refresh(dir string) error {
	s.t.Helper()
	s.requests = nil
	return s.client(dir, at(time.Now())).Refresh(s.t.Context())
}
