package release

import (
	"encoding/json"
	"errors"
	"fmt"

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
