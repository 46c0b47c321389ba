package release

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// What can be wrong with the log proof of a release. [VerifyProof] returns
// exactly one of them, wrapped.
var (
	ErrProofMalformed   = errors.New("log proof is malformed")
	ErrNotLogged        = errors.New("release is not in the log")
	ErrProofOfAnother   = errors.New("log proof is for another release")
	ErrLogSignature     = errors.New("checkpoint is not signed by the release log")
	ErrWitnessesMissing = errors.New("checkpoint lacks witnesses")
)

// Bounds of a proof (C2SP tlog-proof): a tree of 2^63 leaves has paths of at
// most 63 hashes, and a leaf at most 64 KiB (C2SP tlog-tiles).
const (
	MaxProof    = 128 << 10 // bytes
	maxPath     = 63        // hashes
	proofHeader = "c2sp.org/tlog-proof@v1"
)

// Proof is a decoded C2SP tlog-proof that nobody has checked yet.
//
//	c2sp.org/tlog-proof@v1
//	extra <base64 of the leaf data>     (optional)
//	index <decimal>
//	<base64 SHA-256>                    (0 to 63 lines, leaf's sibling first)
//	<empty line>
//	<signed checkpoint>
type Proof struct {
	UntrustedLeaf []byte // of the extra line; tells what a proof that does not fit was for
	Index         int64
	Path          tlog.RecordProof
	Checkpoint    []byte // signed note with the log's and the witnesses' signatures
}

// Marshal returns the text of the proof.
func (p Proof) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString(proofHeader + "\n")
	if len(p.UntrustedLeaf) > 0 {
		fmt.Fprintf(&b, "extra %s\n", base64.StdEncoding.EncodeToString(p.UntrustedLeaf))
	}
	fmt.Fprintf(&b, "index %d\n", p.Index)
	for _, h := range p.Path {
		b.WriteString(h.String() + "\n")
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// UntrustedParseProof decodes a proof. It checks the form alone: only
// [VerifyProof] says whether a release is in the log.
func UntrustedParseProof(raw []byte) (p Proof, err error) {
	if len(raw) > MaxProof {
		return p, fmt.Errorf("%w: %d bytes, at most %d", ErrProofMalformed, len(raw), MaxProof)
	}
	head, checkpoint, ok := strings.Cut(string(raw), "\n\n")
	if !ok {
		return p, fmt.Errorf("%w: no checkpoint", ErrProofMalformed)
	}
	lines := strings.Split(head, "\n")
	if lines[0] != proofHeader {
		return p, fmt.Errorf("%w: first line is not %s", ErrProofMalformed, proofHeader)
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		if p.UntrustedLeaf, err = decodeBase64(lines[0][len("extra "):]); err != nil || len(p.UntrustedLeaf) == 0 {
			return p, fmt.Errorf("%w: extra line is empty or no base64", ErrProofMalformed)
		}
		lines = lines[1:]
	}
	if len(lines) == 0 || len(lines) > 1+maxPath {
		return p, fmt.Errorf("%w: %d lines of index and path, want 1 to %d", ErrProofMalformed, len(lines), 1+maxPath)
	}
	digits, ok := strings.CutPrefix(lines[0], "index ")
	if p.Index, err = parseDecimal(digits); !ok || err != nil {
		return p, fmt.Errorf("%w: index line %.40q", ErrProofMalformed, lines[0])
	}
	for _, line := range lines[1:] {
		h, err := parseHash(line)
		if err != nil {
			return p, fmt.Errorf("%w: path: %w", ErrProofMalformed, err)
		}
		p.Path = append(p.Path, h)
	}
	p.Checkpoint = []byte(checkpoint)
	return p, nil
}

// VerifyProof checks that entry is in the release log: proof is a C2SP
// tlog-proof whose checkpoint the log of trust has signed and a quorum of its
// witnesses has cosigned. An old checkpoint is as good as a new one, and no
// clock is asked. The error is one of the sentinels above.
func VerifyProof(proof []byte, entry Entry, trust *Trust) error {
	if len(proof) == 0 {
		return fmt.Errorf("%w: it came without a proof", ErrNotLogged)
	}
	leaf, err := entry.Marshal()
	if err != nil {
		return err
	}
	p, err := UntrustedParseProof(proof)
	if err != nil {
		return err
	}
	head, err := VerifyCheckpoint(p.Checkpoint, trust)
	if err != nil {
		return err
	}
	if p.includes(head, leaf) {
		return nil
	}
	if len(p.UntrustedLeaf) > 0 && !bytes.Equal(p.UntrustedLeaf, leaf) && p.includes(head, p.UntrustedLeaf) {
		return fmt.Errorf("%w: leaf %d is %.200q", ErrProofOfAnother, p.Index, p.UntrustedLeaf)
	}
	return fmt.Errorf("%w: leaf %d of %d is not %s", ErrNotLogged, p.Index, head.N, entry.Target)
}

// includes reports whether the path leads from leaf to the tree head.
func (p Proof) includes(head tlog.Tree, leaf []byte) bool {
	return p.Index < head.N && tlog.CheckRecord(p.Path, head.N, head.Hash, p.Index, tlog.RecordHash(leaf)) == nil
}

// VerifyCheckpoint returns the tree head of a checkpoint (C2SP
// tlog-checkpoint) that the log and a quorum of witnesses have signed.
func VerifyCheckpoint(checkpoint []byte, trust *Trust) (tlog.Tree, error) {
	head, err := VerifyLogSignature(checkpoint, trust.Log)
	if err != nil {
		return head, err
	}
	witnesses, err := trust.witnesses()
	if err != nil {
		return head, err
	}
	n, err := note.Open(checkpoint, note.VerifierList(witnesses...))
	var unverified *note.UnverifiedNoteError
	if err != nil && !errors.As(err, &unverified) {
		return head, fmt.Errorf("%w: %w", ErrWitnessesMissing, err)
	}
	got := 0
	if n != nil {
		got = len(n.Sigs) // one per verifier: note.Open drops repeated ones
	}
	if got < trust.Quorum {
		return head, fmt.Errorf("%w: %d of the %d that must have signed", ErrWitnessesMissing, got, trust.Quorum)
	}
	return head, nil
}

// VerifyLogSignature returns the tree head of a checkpoint that the log, given
// by its verifier key, has signed. It asks no witness: what it returns may be
// one of two forks. Phones call [VerifyProof].
func VerifyLogSignature(checkpoint []byte, logKey string) (head tlog.Tree, err error) {
	verifier, err := note.NewVerifier(logKey)
	if err != nil {
		return head, fmt.Errorf("log key: %w", err)
	}
	if !strings.HasSuffix(string(checkpoint), "\n") {
		return head, fmt.Errorf("%w: checkpoint ends within a line", ErrProofMalformed)
	}
	n, err := note.Open(checkpoint, note.VerifierList(verifier))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified), errors.As(err, &invalid):
		return head, fmt.Errorf("%w: %w", ErrLogSignature, err)
	case err != nil:
		return head, fmt.Errorf("%w: checkpoint: %w", ErrProofMalformed, err)
	}
	origin, head, err := parseCheckpoint(n.Text)
	if err != nil {
		return head, err
	}
	if origin != verifier.Name() {
		return head, fmt.Errorf("%w: checkpoint of %.80q, want %q", ErrLogSignature, origin, verifier.Name())
	}
	return head, nil
}

// parseCheckpoint reads origin, size and root; lines behind them are for others
// (C2SP tlog-checkpoint, extension lines).
func parseCheckpoint(text string) (origin string, head tlog.Tree, err error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return "", head, fmt.Errorf("%w: checkpoint without origin, size and root", ErrProofMalformed)
	}
	if head.N, err = parseDecimal(lines[1]); err != nil {
		return "", head, fmt.Errorf("%w: checkpoint size %.40q", ErrProofMalformed, lines[1])
	}
	if head.Hash, err = parseHash(lines[2]); err != nil {
		return "", head, fmt.Errorf("%w: checkpoint root: %w", ErrProofMalformed, err)
	}
	return lines[0], head, nil
}

func parseDecimal(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("number %.40q: want decimal without sign or leading zero", s)
	}
	return n, nil
}

func parseHash(s string) (h tlog.Hash, err error) {
	raw, err := decodeBase64(s)
	if err != nil || len(raw) != len(h) {
		return h, fmt.Errorf("hash %.60q: want base64 of %d bytes", s, len(h))
	}
	return tlog.Hash(raw), nil
}

// decodeBase64 takes the one canonical encoding of the bytes (RFC 4648 3.5).
func decodeBase64(s string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && base64.StdEncoding.EncodeToString(raw) != s {
		err = errors.New("base64 with line breaks")
	}
	return raw, err
}
