package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"ringfence/provisioning/wire"
)

// Trust is what a phone believes about releases. It is part of the measured
// image, so it changes only with a release that the former trust accepted.
type Trust struct {
	Root      json.RawMessage `json:"root"`      // TUF root metadata to start from (version N; later roots chain from it)
	Log       string          `json:"log"`       // verifier key of the release log (golang.org/x/mod/sumdb/note)
	Witnesses []string        `json:"witnesses"` // verifier keys of witnesses (C2SP tlog-cosignature)
	Quorum    int             `json:"quorum"`    // how many of them must have signed, at least 1
}

// MaxTrust bounds the JSON of a Trust, in bytes.
const MaxTrust = 256 << 10

// ParseTrust decodes and checks a trust document.
func ParseTrust(raw []byte) (*Trust, error) {
	t := new(Trust)
	if err := wire.DecodeStrict(raw, MaxTrust, t); err != nil {
		return nil, fmt.Errorf("parse release trust: %w", err)
	}
	if len(t.Root) == 0 || t.Log == "" {
		return nil, errors.New("release trust without TUF root or log key")
	}
	if t.Quorum < 1 || t.Quorum > len(t.Witnesses) {
		return nil, fmt.Errorf("release trust wants %d of %d witnesses, want at least 1 and no more than there are", t.Quorum, len(t.Witnesses))
	}
	return t, nil
}

// Entry is one leaf of the release log: a target that was published. Its
// canonical JSON (Marshal) is the leaf data.
type Entry struct {
	Target   string `json:"target"`
	SHA256   string `json:"sha256"` // lower-case hexadecimal
	Length   int64  `json:"length"` // bytes
	Release  string `json:"release"`
	Sequence uint64 `json:"sequence"`
}

// Marshal returns the leaf data.
func (e Entry) Marshal() ([]byte, error) { return json.Marshal(e) }

// MaxEntry bounds the leaf data of an Entry, in bytes.
const MaxEntry = 4 << 10

// Validate checks that the entry names one file of one release.
func (e Entry) Validate() error {
	if digest, err := hex.DecodeString(e.SHA256); err != nil || len(digest) != sha256.Size || strings.ToLower(e.SHA256) != e.SHA256 {
		return fmt.Errorf("log entry digest %.80q: want SHA-256 in lower-case hexadecimal", e.SHA256)
	}
	if e.Target == "" || len(e.Target) > 1024 || e.Length <= 0 {
		return fmt.Errorf("log entry of target %.80q with %d bytes: want a name of at most 1024 bytes and a length", e.Target, e.Length)
	}
	_, err := ParseVersion(e.Release)
	return err
}

// UntrustedParseEntry decodes leaf data.
func UntrustedParseEntry(leaf []byte) (e Entry, err error) {
	if err := wire.DecodeStrict(leaf, MaxEntry, &e); err != nil {
		return e, fmt.Errorf("parse log entry: %w", err)
	}
	return e, e.Validate()
}

// Custom is the custom field of an image in the TUF targets metadata.
type Custom struct {
	Model     string   `json:"model"`
	Hardware  []string `json:"hardware"` // revisions that may run it
	Release   string   `json:"release"`
	Sequence  uint64   `json:"sequence"`  // grows with every release of the model; the rollback floor counts it
	Reference string   `json:"reference"` // target path of the signed reference values
}

// Paths of the update repository on the provisioning service's phone port,
// over mutual TLS with the management certificate.
const (
	PathMetadata = "/tuf/metadata/" // + TUF metadata file name
	PathTargets  = "/tuf/targets/"  // + target path, with the digest prefix of consistent snapshots
	PathProofs   = "/tuf/proofs/"   // + target path: a C2SP tlog-proof of its Entry
)
