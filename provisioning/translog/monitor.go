package translog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/tlog"

	"ringfence/provisioning/wire/release"
)

// ErrForked reports that a log no longer holds what it held before, or that
// its leaves are not those of its checkpoint: proof of misbehaviour.
var ErrForked = errors.New("release log is not append-only")

// Source is where a monitor reads a log.
type Source interface {
	ReadCheckpoint(ctx context.Context) ([]byte, error)
	ReadEntryBundle(ctx context.Context, index uint64, p uint8) ([]byte, error)
}

var (
	_ Source = (*client.HTTPFetcher)(nil)
	_ Source = client.FileFetcher{}
)

// NewSource reads a log from an http or https address or, without a scheme,
// from a folder.
func NewSource(address string, c *http.Client) (Source, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("log address: %w", err)
	}
	if u.Scheme == "" {
		return client.FileFetcher{Root: address}, nil
	}
	return client.NewHTTPFetcher(u, c)
}

// Leaf is one entry of the log with its place.
type Leaf struct {
	Index int64         `json:"index"`
	Entry release.Entry `json:"entry"`
}

// Finding is what a monitor found.
type Finding struct {
	Head   tlog.Tree `json:"head"`   // verified, all leaves were read
	New    []Leaf    `json:"new"`    // leaves behind the last head
	Alarms []string  `json:"alarms"` // what the owner of a name in the log should look at
}

// Monitor reads the whole log and recomputes its tree. last is the head of the
// former call, zero at first: a log that does not contain it is [ErrForked].
func Monitor(ctx context.Context, from Source, trust *release.Trust, last tlog.Tree) (*Finding, error) {
	checkpoint, err := from.ReadCheckpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	f := &Finding{}
	if f.Head, err = release.VerifyCheckpoint(checkpoint, trust); err != nil {
		return nil, err
	}
	if f.Head.N < last.N {
		return nil, fmt.Errorf("%w: %d leaves, before %d", ErrForked, f.Head.N, last.N)
	}
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	tree, targets := factory.NewEmptyRange(0), map[string]release.Entry{}
	err = eachLeaf(ctx, from.ReadEntryBundle, 0, uint64(f.Head.N), func(i int64, leaf []byte) error {
		if err := sameRoot(tree, i, last); err != nil {
			return err
		}
		f.look(i, leaf, last.N, targets)
		return tree.Append(rfc6962.DefaultHasher.HashLeaf(leaf), nil)
	})
	if err != nil {
		return nil, err
	}
	if err := sameRoot(tree, f.Head.N, last); err != nil {
		return nil, err
	}
	return f, sameRoot(tree, f.Head.N, f.Head)
}

// sameRoot compares the root at size n with head when that is its size.
func sameRoot(tree *compact.Range, n int64, head tlog.Tree) error {
	if n != head.N || head.Hash == (tlog.Hash{}) {
		return nil
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return err
	}
	if n == 0 {
		root = rfc6962.DefaultHasher.EmptyRoot()
	}
	if tlog.Hash(root) != head.Hash {
		return fmt.Errorf("%w: root of the first %d leaves is %s, want %s", ErrForked, n, tlog.Hash(root), head.Hash)
	}
	return nil
}

// look reads one leaf; first is the index from which leaves are new.
func (f *Finding) look(i int64, leaf []byte, first int64, targets map[string]release.Entry) {
	e, err := release.UntrustedParseEntry(leaf)
	if err != nil {
		f.Alarms = append(f.Alarms, fmt.Sprintf("leaf %d is no release: %v", i, err))
		return
	}
	if before, there := targets[e.Target]; there && before != e {
		f.Alarms = append(f.Alarms, fmt.Sprintf("leaf %d: target %s stands in the log with other content (%s, before %s)", i, e.Target, e.SHA256, before.SHA256))
	}
	targets[e.Target] = e
	if i >= first {
		f.New = append(f.New, Leaf{Index: i, Entry: e})
	}
}
