package image

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"ringfence/provisioning/wire"
)

// Types of the provenance document (in-toto Statement v1, SLSA Provenance v1).
const (
	ProvenancePayload   = "application/vnd.in-toto+json"
	statementType       = "https://in-toto.io/Statement/v1"
	provenancePredicate = "https://slsa.dev/provenance/v1"
	provenanceBuild     = "urn:ringfence:build:image:v1"
	provenanceBuilder   = "urn:ringfence:builder:image"
	maxProvenance       = 256 << 10
)

// The part of in-toto Statement v1 and SLSA Provenance v1 that is used.
type (
	// Statement says of its subjects how they were built.
	Statement struct {
		Type          string       `json:"_type"`
		Subject       []Descriptor `json:"subject"`
		PredicateType string       `json:"predicateType"`
		Predicate     Provenance   `json:"predicate"`
	}
	// Descriptor is an artifact with its digests.
	Descriptor struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"` // algorithm to lower-case hexadecimal
		Notes  map[string]string `json:"annotations,omitempty"`
	}
	// Provenance is the SLSA predicate.
	Provenance struct {
		Definition BuildDefinition `json:"buildDefinition"`
		Run        RunDetails      `json:"runDetails"`
	}
	// BuildDefinition holds every input of the build.
	BuildDefinition struct {
		Type         string          `json:"buildType"`
		Parameters   BuildParameters `json:"externalParameters"`
		Dependencies []Descriptor    `json:"resolvedDependencies"`
	}
	// BuildParameters are what `ringfence image build` was asked for.
	BuildParameters struct {
		Board       string `json:"board"`
		Release     string `json:"release"`
		Package     string `json:"package"`
		Tags        string `json:"tags,omitempty"`
		Test        bool   `json:"test,omitempty"`
		CommandLine string `json:"commandLineExtra,omitempty"`
	}
	// RunDetails names the builder. No time is in it: equal builds have equal
	// documents.
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
	}
)

// provenance describes the build of c from in.
func (c *BuildConfig) provenance(ctx context.Context, in materials, subjects map[string][]byte) (*Statement, error) {
	program := c.Program
	if program.Package == "" {
		program.Package = "./firmware/cmd/phone"
	}
	root, err := program.root(ctx)
	if err != nil {
		return nil, err
	}
	source, err := sourceDescriptor(ctx, root)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.Read(bytes.NewReader(in.init))
	if err != nil {
		return nil, fmt.Errorf("read build information of the init binary: %w", err)
	}
	s := &Statement{Type: statementType, PredicateType: provenancePredicate}
	for name, data := range subjects {
		s.Subject = append(s.Subject, describe(name, "", data))
	}
	slices.SortFunc(s.Subject, func(a, b Descriptor) int { return strings.Compare(a.Name, b.Name) })
	s.Predicate.Definition = BuildDefinition{Type: provenanceBuild,
		Parameters: BuildParameters{Board: c.Board, Release: c.Release, Package: program.Package, Tags: program.Tags, Test: c.Test, CommandLine: c.CommandLineExtra},
		Dependencies: []Descriptor{source,
			describe("kernel image", "pkg:deb/debian/linux-source-6.1@"+in.kernel.Version, in.image),
			describe("stub", "pkg:deb/debian/systemd-boot-efi@"+in.stub.Version+"?arch=arm64", in.stub.Data),
			describe("uefi firmware", "pkg:deb/debian/qemu-efi-aarch64", in.firmware),
			{Name: "go", URI: "pkg:generic/go@" + strings.TrimPrefix(info.GoVersion, "go")},
			{Name: "gcc", URI: "pkg:generic/gcc?version=" + strings.ReplaceAll(in.kernel.Compiler, " ", "%20")},
		}}
	if in.trust != nil {
		s.Predicate.Definition.Dependencies = append(s.Predicate.Definition.Dependencies, describe("release trust", "", in.trust))
	}
	for _, m := range info.Deps {
		s.Predicate.Definition.Dependencies = append(s.Predicate.Definition.Dependencies,
			Descriptor{Name: m.Path, URI: "pkg:golang/" + m.Path + "@" + m.Version})
	}
	s.Predicate.Run.Builder.ID = provenanceBuilder
	return s, nil
}

// describe names a file by its digest; from is the package that it was taken
// or built from, which is not what the digest is of.
func describe(name, from string, data []byte) Descriptor {
	sum := sha256.Sum256(data)
	d := Descriptor{Name: name, Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}}
	if from != "" {
		d.Notes = map[string]string{"from": from}
	}
	return d
}

// sourceDescriptor names the sources by the digest of the files that a build
// can read and, when nothing is changed beside it, by the commit.
func sourceDescriptor(ctx context.Context, root string) (Descriptor, error) {
	digest, err := sourceDigest(os.DirFS(root))
	if err != nil {
		return Descriptor{}, fmt.Errorf("read sources: %w", err)
	}
	d := Descriptor{Name: "source", URI: "urn:ringfence:source", Digest: map[string]string{"dirHash1": digest}}
	commit, errCommit := run(ctx, root, nil, "git", "rev-parse", "HEAD")
	changes, errChanges := run(ctx, root, nil, "git", "status", "--porcelain")
	if errCommit == nil && errChanges == nil && changes == "" {
		d.Digest["gitCommit"] = strings.TrimSpace(commit)
	}
	return d, nil
}

// sourceDigest is the Go directory hash (in-toto digest "dirHash1": SHA-256
// over the sorted lines of sha256sum, in hexadecimal) of go.mod, go.sum, all
// shipped Go files and what stands in boards/.
func sourceDigest(root fs.FS) (string, error) {
	var lines []string
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != "." && (strings.HasPrefix(d.Name(), ".") || path == "build") {
				return fs.SkipDir
			}
			return nil
		}
		source := strings.HasPrefix(path, "boards/") || path == "go.mod" || path == "go.sum" || filepath.Ext(path) == ".go"
		if !source || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		data, err := fs.ReadFile(root, path)
		lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(data), path))
		return err
	})
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:]), err
}

// SignProvenance returns the DSSE envelope (JSON) of s by the release key.
func SignProvenance(s *Statement, key crypto.Signer) ([]byte, error) {
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	es, err := dsse.NewEnvelopeSigner(dsseKey{private: key, public: key.Public()})
	if err != nil {
		return nil, err
	}
	env, err := es.SignPayload(context.Background(), ProvenancePayload, payload)
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	return json.MarshalIndent(env, "", "  ")
}

// VerifyProvenance checks the envelope against the release key and that it is
// about artifact. It is the only way to get a Statement from outside.
func VerifyProvenance(envelope []byte, key crypto.PublicKey, artifact []byte) (*Statement, error) {
	var env dsse.Envelope
	if err := wire.DecodeStrict(envelope, maxProvenance, &env); err != nil {
		return nil, fmt.Errorf("decode provenance envelope: %w", err)
	}
	if env.PayloadType != ProvenancePayload {
		return nil, fmt.Errorf("payload type %q, want %q", env.PayloadType, ProvenancePayload)
	}
	v, err := dsse.NewEnvelopeVerifier(dsseKey{public: key})
	if err != nil {
		return nil, err
	}
	_, payload, err := v.VerifyAndDecode(context.Background(), &env)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	s := new(Statement)
	if err := wire.DecodeStrict(payload, maxProvenance, s); err != nil {
		return nil, fmt.Errorf("decode provenance: %w", err)
	}
	if s.Type != statementType || s.PredicateType != provenancePredicate {
		return nil, fmt.Errorf("statement of type %q about %q, want SLSA provenance v1", s.Type, s.PredicateType)
	}
	digest := describe("", "", artifact).Digest["sha256"]
	if !slices.ContainsFunc(s.Subject, func(d Descriptor) bool { return d.Digest["sha256"] == digest }) {
		return nil, fmt.Errorf("provenance is not about the file of digest %s", digest)
	}
	return s, nil
}

// dsseKey signs (private) and verifies (public) by ECDSA with SHA-256.
type dsseKey struct {
	private crypto.Signer
	public  crypto.PublicKey
}

func (k dsseKey) Sign(_ context.Context, data []byte) ([]byte, error) {
	digest := sha256.Sum256(data)
	return k.private.Sign(rand.Reader, digest[:], crypto.SHA256)
}

func (k dsseKey) Verify(_ context.Context, data, sig []byte) error {
	pub, ok := k.public.(*ecdsa.PublicKey)
	digest := sha256.Sum256(data)
	if !ok || !ecdsa.VerifyASN1(pub, digest[:], sig) {
		return errors.New("signature is not by the release key")
	}
	return nil
}

func (k dsseKey) KeyID() (string, error)   { return dsse.SHA256KeyID(k.public) }
func (k dsseKey) Public() crypto.PublicKey { return k.public }
