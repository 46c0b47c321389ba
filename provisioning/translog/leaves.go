package translog

import (
	"context"
	"fmt"

	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
)

// eachLeaf calls fn for the leaves from first to size-1, in order.
func eachLeaf(ctx context.Context, read client.EntryBundleFetcherFunc, first, size uint64, fn func(index int64, leaf []byte) error) error {
	for i := first; i < size; {
		bundle, err := client.GetEntryBundle(ctx, read, i/layout.EntryBundleWidth, size)
		if err != nil {
			return fmt.Errorf("read leaves from %d: %w", i, err)
		}
		start := i / layout.EntryBundleWidth * layout.EntryBundleWidth
		want := min(size-start, layout.EntryBundleWidth)
		if uint64(len(bundle.Entries)) < want {
			return fmt.Errorf("read leaves from %d: %d in the bundle, want %d", start, len(bundle.Entries), want)
		}
		for _, leaf := range bundle.Entries[i-start : want] {
			if err := fn(int64(i), leaf); err != nil {
				return err
			}
			i++
		}
	}
	return nil
}
