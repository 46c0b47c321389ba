// Package translog keeps the append-only log of published releases: one leaf
// per target, checkpoints that a quorum of witnesses has cosigned, and the
// proofs that travel with a release. It decides nothing about releases and
// signs none. Specification: C2SP tlog-tiles, tlog-checkpoint, tlog-witness,
// tlog-proof; storage is Tessera's on a POSIX file system.
package translog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/tlog"

	"ringfence/provisioning/translog/notekey"
	"ringfence/provisioning/wire/release"
)

// ErrNotWitnessed reports that too few witnesses signed in time. The entry is
// in the tree but unpublished; calling Append again completes it.
var ErrNotWitnessed = errors.New("checkpoint was not witnessed")

// Witness is one witness that the log asks.
type Witness struct {
	Key string `json:"key"` // verifier key, signature type 4
	URL string `json:"url"` // submission prefix: /add-checkpoint stands below it
}

// Config configures a Log.
type Config struct {
	Dir       string            // tiles, entries and checkpoint; required
	Key       notekey.Key       // required; its name is the origin
	Witnesses []Witness         // required
	Quorum    int               // how many of them must sign a checkpoint, at least 1
	Transport http.RoundTripper // nil = http.DefaultTransport
	Timeout   time.Duration     // for one Append; 0 = 30 s
	Interval  time.Duration     // least time between checkpoints, at least 100 ms; 0 = 1 s
}

// Log is an open log. It is safe for concurrent use; one process opens it at a
// time. The owner calls Close.
type Log struct {
	trust    *release.Trust
	timeout  time.Duration
	dir      string
	lock     *os.File
	stop     context.CancelFunc
	appender *tessera.Appender
	reader   tessera.LogReader
	calls    *calls

	mu    sync.Mutex
	index map[tlog.Hash]int64 // leaf hash to index; nil = must be read again
}

// Open opens the log in c.Dir and makes it when absent. The first checkpoint,
// of the empty tree, needs the witnesses too.
func Open(ctx context.Context, c Config) (*Log, error) {
	l, opts, err := prepare(c)
	if err != nil {
		return nil, err
	}
	if l.lock, err = lockDir(c.Dir); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	driver, err := posix.New(run, posix.Config{Path: c.Dir, HTTPClient: &http.Client{Transport: l.calls, Timeout: witnessTimeout}})
	if err == nil {
		l.appender, _, l.reader, err = tessera.NewAppender(run, driver, opts)
	}
	if err == nil {
		err = l.readIndex(ctx)
	}
	if err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("open release log %s: %w", c.Dir, l.calls.explain(err)), l.lock.Close())
	}
	return l, nil
}

// witnessTimeout bounds one round of questions to the witnesses.
const witnessTimeout = 5 * time.Second

// prepare checks the configuration.
func prepare(c Config) (*Log, *tessera.AppendOptions, error) {
	if c.Dir == "" || c.Key.Name() == "" {
		return nil, nil, errors.New("a release log needs a folder and a key")
	}
	signer, err := c.Key.Signer()
	if err != nil {
		return nil, nil, err
	}
	trust, err := c.trust()
	if err != nil {
		return nil, nil, err
	}
	var asked []tessera.Witness
	group := tessera.WitnessGroup{N: c.Quorum}
	for _, w := range c.Witnesses {
		u, err := url.Parse(w.URL)
		if err != nil || u.Host == "" {
			return nil, nil, fmt.Errorf("witness address %q: want an http or https URL", w.URL)
		}
		one, err := tessera.NewWitness(w.Key, u)
		if err != nil {
			return nil, nil, fmt.Errorf("witness %.80q: %w", w.Key, err)
		}
		asked = append(asked, one)
	}
	for _, one := range asked {
		group.Components = append(group.Components, one)
	}
	if len(group.Endpoints()) != len(asked) {
		return nil, nil, errors.New("two witnesses have one address")
	}
	opts := tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithWitnesses(group, &tessera.WitnessOptions{Timeout: witnessTimeout}).
		WithBatching(256, 10*time.Millisecond).
		WithCheckpointInterval(orDefault(c.Interval, time.Second)).
		WithCheckpointRepublishInterval(0).
		WithGarbageCollectionInterval(0) // proofs against old checkpoints need the old tiles
	l := &Log{trust: trust, timeout: orDefault(c.Timeout, 30*time.Second), dir: c.Dir, calls: newCalls(c.Transport)}
	return l, opts, nil
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

// trust is what a verifier of this log must believe; TUF's root is not the
// log's business and stays empty.
func (c Config) trust() (*release.Trust, error) {
	key, err := c.Key.LogKey()
	if err != nil {
		return nil, err
	}
	t := &release.Trust{Log: key, Quorum: c.Quorum}
	for _, w := range c.Witnesses {
		t.Witnesses = append(t.Witnesses, w.Key)
	}
	return t, t.CheckWitnesses()
}

// lockDir keeps a second writer out of the folder.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock release log: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("release log %s is open in another process: %w", dir, err), f.Close())
	}
	return f, nil
}

// Trust returns log key, witness keys and quorum; its TUF root is empty. The
// caller must not change it.
func (l *Log) Trust() *release.Trust { return l.trust }

// Close ends the log's work without waiting for witnesses: an entry that has
// not been witnessed stays in the tree and is published by the next Append. The
// storage library's own goroutines end soon after; it has no way to await them.
func (l *Log) Close() error {
	l.stop()
	return l.lock.Close()
}

// Append puts an entry into the log, unless it is there already, waits until a
// witnessed checkpoint covers it, and returns its C2SP tlog-proof, checked as a
// phone checks it.
func (l *Log) Append(ctx context.Context, e release.Entry) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	leaf, err := e.Marshal()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	index, err := l.add(ctx, leaf)
	if err != nil {
		return nil, fmt.Errorf("append %s to the release log: %w", e.Target, err)
	}
	checkpoint, head, err := l.published(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("publish %s in the release log: %w", e.Target, err)
	}
	proof, err := l.prove(ctx, leaf, index, checkpoint, head)
	if err != nil {
		return nil, fmt.Errorf("prove %s: %w", e.Target, err)
	}
	return proof, release.VerifyProof(proof, e, l.trust)
}

// add returns the index of the leaf, which is in the tree afterwards.
func (l *Log) add(ctx context.Context, leaf []byte) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.index == nil {
		if err := l.readIndex(ctx); err != nil {
			return 0, err
		}
	}
	hash := tlog.RecordHash(leaf)
	if i, there := l.index[hash]; there {
		return i, nil
	}
	i, err := l.appender.Add(ctx, tessera.NewEntry(leaf))()
	if err != nil {
		l.index = nil // whether the leaf went in is known to the disk alone
		return 0, err
	}
	l.index[hash] = int64(i.Index)
	return int64(i.Index), nil
}

// readIndex reads all leaves of the tree, published or not.
func (l *Log) readIndex(ctx context.Context) error {
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("read tree size: %w", err)
	}
	index := map[tlog.Hash]int64{}
	err = eachLeaf(ctx, l.reader.ReadEntryBundle, 0, size, func(i int64, leaf []byte) error {
		hash := tlog.RecordHash(leaf)
		if _, there := index[hash]; !there {
			index[hash] = i
		}
		return nil
	})
	if err == nil {
		l.index = index
	}
	return err
}

// published waits for a checkpoint that covers the leaf.
func (l *Log) published(ctx context.Context, index int64) ([]byte, tlog.Tree, error) {
	for {
		checkpoint, err := l.reader.ReadCheckpoint(ctx)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, tlog.Tree{}, fmt.Errorf("read checkpoint: %w", err)
		}
		if err == nil {
			head, err := release.VerifyCheckpoint(checkpoint, l.trust)
			if err != nil || head.N > index {
				return checkpoint, head, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, tlog.Tree{}, l.calls.explain(fmt.Errorf("%w: %w", ErrNotWitnessed, ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *Log) prove(ctx context.Context, leaf []byte, index int64, checkpoint []byte, head tlog.Tree) ([]byte, error) {
	builder, err := client.NewProofBuilder(ctx, uint64(head.N), l.reader.ReadTile)
	if err != nil {
		return nil, err
	}
	path, err := builder.InclusionProof(ctx, uint64(index))
	if err != nil {
		return nil, err
	}
	p := release.Proof{UntrustedLeaf: leaf, Index: index, Checkpoint: checkpoint}
	for _, h := range path {
		p.Path = append(p.Path, tlog.Hash(h))
	}
	return p.Marshal(), nil
}
