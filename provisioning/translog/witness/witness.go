// Package witness cosigns the checkpoints of release logs: it remembers the
// last tree head of every log it knows and signs only what extends it, so that
// a log cannot show two histories. It neither stores entries nor judges them.
// Specification: C2SP tlog-witness (add-checkpoint), tlog-cosignature.
package witness

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"ringfence/provisioning/translog/notekey"
	"ringfence/provisioning/wire/release"
)

// Reasons to refuse a checkpoint. The comments name the HTTP status.
var (
	ErrMalformed  = errors.New("request is malformed")                           // 400
	ErrSignature  = errors.New("checkpoint is not signed by the log")            // 403
	ErrUnknownLog = errors.New("log is not known")                               // 404
	ErrOldSize    = errors.New("old size is not that of the last cosigned head") // 409 with the size
	ErrFork       = errors.New("log forked: same size, another root")            // 409
	ErrProof      = errors.New("consistency proof does not hold")                // 422
)

// Config configures a Witness. Every field is required.
type Config struct {
	Key   notekey.Key
	Logs  []string // verifier keys of the logs to witness
	State string   // state file, made by [InitState]
	Now   func() time.Time
	Log   *slog.Logger
}

// Witness cosigns checkpoints. It is safe for concurrent use; the owner calls
// Close.
type Witness struct {
	c    Config
	id   *release.Witness
	logs map[string]string // origin to verifier key

	mu    sync.Mutex // holds check, write and signature together
	state *state
}

// New opens the witness's memory.
func New(c Config) (*Witness, error) {
	if c.Key.Name() == "" || len(c.Logs) == 0 || c.State == "" || c.Now == nil || c.Log == nil {
		return nil, errors.New("a witness needs a key, logs, a state file, a clock and a logger")
	}
	vkey, err := c.Key.WitnessKey()
	if err != nil {
		return nil, err
	}
	w := &Witness{c: c, logs: map[string]string{}}
	if w.id, err = release.ParseWitness(vkey); err != nil {
		return nil, err
	}
	for _, key := range c.Logs {
		v, err := note.NewVerifier(key)
		if err != nil {
			return nil, fmt.Errorf("log key %.80q: %w", key, err)
		}
		if w.logs[v.Name()] != "" {
			return nil, fmt.Errorf("log %s stands twice in the configuration", v.Name())
		}
		w.logs[v.Name()] = key
	}
	w.state, err = openState(c.State)
	return w, err
}

// Close gives the state file free.
func (w *Witness) Close() error { return w.state.close() }

// AddCheckpoint checks that the request's checkpoint extends what was cosigned
// before, remembers it durably, and returns the cosignature line. Beside
// ErrOldSize it returns the size of the last cosigned head.
func (w *Witness) AddCheckpoint(r Request) (line string, size int64, err error) {
	origin := r.origin()
	key, known := w.logs[origin]
	if !known {
		return "", 0, fmt.Errorf("%w: %.80q", ErrUnknownLog, origin)
	}
	head, err := release.VerifyLogSignature(r.Checkpoint, key)
	switch {
	case errors.Is(err, release.ErrLogSignature):
		return "", 0, fmt.Errorf("%w: %w", ErrSignature, err)
	case err != nil:
		return "", 0, fmt.Errorf("%w: %w", ErrMalformed, err)
	case r.Old > head.N:
		return "", 0, fmt.Errorf("%w: old size %d of a tree of %d", ErrMalformed, r.Old, head.N)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen, size, err := w.last(origin)
	if err != nil {
		return "", 0, err
	}
	if r.Old != size {
		return "", size, fmt.Errorf("%w: %d, want %d", ErrOldSize, r.Old, size)
	}
	if err := extends(r.Proof, head, seen, size, w.state.seen[origin].Root != ""); err != nil {
		w.c.Log.Error("refused a checkpoint that the log has signed", "log", origin, "size", head.N, "cosigned", size,
			"err", err, "checkpoint", string(r.Checkpoint))
		return "", size, err
	}
	if err := w.state.put(origin, Seen{Size: head.N, Root: head.Hash.String()}); err != nil {
		return "", size, err
	}
	return w.sign(r.text()), head.N, nil
}

// last returns the last cosigned head of a log, zero for a new one.
func (w *Witness) last(origin string) (tlog.Hash, int64, error) {
	seen, known := w.state.seen[origin]
	if !known {
		return tlog.Hash{}, 0, nil
	}
	root, err := tlog.ParseHash(seen.Root)
	return root, seen.Size, err
}

// extends checks that the tree of head contains the one that was cosigned.
func extends(proof tlog.TreeProof, head tlog.Tree, root tlog.Hash, size int64, cosigned bool) error {
	switch {
	case head.N == size && cosigned && head.Hash != root:
		return fmt.Errorf("%w: size %d, root %s and before %s", ErrFork, size, head.Hash, root)
	case head.N == size || size == 0:
		if len(proof) != 0 {
			return fmt.Errorf("%w: proof of %d lines where none is needed", ErrProof, len(proof))
		}
		if empty, _ := tlog.TreeHash(0, nil); head.N == 0 && head.Hash != empty {
			return fmt.Errorf("%w: root of the empty tree is %s", ErrProof, head.Hash)
		}
		return nil
	}
	if err := tlog.CheckTree(proof, head.N, head.Hash, size, root); err != nil {
		return fmt.Errorf("%w: from %d to %d: %w", ErrProof, size, head.N, err)
	}
	return nil
}

// sign returns the note signature line over the checkpoint's text.
func (w *Witness) sign(text []byte) string {
	seconds := uint64(max(w.c.Now().Unix(), 0))
	raw := binary.BigEndian.AppendUint32(nil, w.id.KeyHash())
	raw = binary.BigEndian.AppendUint64(raw, seconds)
	raw = append(raw, ed25519.Sign(w.c.Key.Private(), release.CosignatureMessage(seconds, text))...)
	return fmt.Sprintf("\u2014 %s %s\n", w.id.Name(), base64.StdEncoding.EncodeToString(raw))
}
