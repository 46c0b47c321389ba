// Package tuf is the client of the update repository: The Update Framework's
// client workflow over go-tuf's verification, with a store that survives power
// cuts, bounded downloads that resume, and a clock that may be unknown. It
// does not judge releases (model, sequence, log proof) and writes no slot.
//
// Spec: TUF specification 1.0.31, section 5.
package tuf

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// Sentinels that a caller branches on; test with errors.Is.
var (
	// ErrExpired reports metadata whose time is over: a frozen mirror, or a
	// phone whose clock is ahead.
	ErrExpired = errors.New("metadata has expired")
	// ErrNotFound reports a target that no trusted role lists.
	ErrNotFound = errors.New("target is not in the repository")
	// ErrMismatch reports content other than the metadata promised.
	ErrMismatch = errors.New("content is not what the metadata says")
)

// Bounds of the downloads, in bytes and in number.
const (
	maxRoot       = 512_000
	maxTimestamp  = 16_384
	maxSnapshot   = 2_000_000
	maxTargets    = 5_000_000
	maxRotations  = 256 // root versions followed in one refresh
	maxDelegation = 32  // roles visited for one target
)

// Clock tells the time, and whether it is known. With an unknown time
// everything but expiry is verified (R6).
type Clock func() (now time.Time, known bool)

// Store keeps metadata that was verified. It need not be trusted: what it
// returns is verified again, and what does not verify counts as absent.
type Store interface {
	// Load returns what was saved under the name, or any error.
	Load(name string) ([]byte, error)
	// Save replaces it so that a power cut leaves the old or the new.
	Save(name string, data []byte) error
}

// Config of a client. No field has a usable zero value.
type Config struct {
	Root        []byte       // root metadata that is trusted without proof, part of the measured image
	Store       Store        // where verified metadata is kept
	Clock       Clock        // also of a phone that does not know the time
	HTTP        *http.Client // speaks to the repository; its timeouts count
	MetadataURL string       // folder of the metadata files
	TargetsURL  string       // folder of the targets
}

// Client reads one repository. It is not safe for concurrent use.
type Client struct {
	c       Config
	trusted *trustedmetadata.TrustedMetadata // nil before the first Refresh
}

// New verifies the configured root by itself and makes no request.
func New(c Config) (*Client, error) {
	if c.Store == nil || c.Clock == nil || c.HTTP == nil {
		return nil, errors.New("a TUF client needs a store, a clock and an HTTP client")
	}
	for _, raw := range []string{c.MetadataURL, c.TargetsURL} {
		if u, err := url.Parse(raw); err != nil || u.Host == "" {
			return nil, fmt.Errorf("repository address %q is not an absolute URL", raw)
		}
	}
	c.MetadataURL, c.TargetsURL = slash(c.MetadataURL), slash(c.TargetsURL)
	cl := &Client{c: c}
	if _, err := cl.start(); err != nil {
		return nil, err
	}
	return cl, nil
}

func slash(s string) string { return strings.TrimSuffix(s, "/") + "/" }

// start makes a set that trusts the configured root and nothing else, at the
// clock's time. The zero time is after no expiry.
func (c *Client) start() (*trustedmetadata.TrustedMetadata, error) {
	if err := checkRoot(c.c.Root); err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	set, err := trustedmetadata.New(c.c.Root)
	if err != nil {
		return nil, fmt.Errorf("trusted root: %w", err)
	}
	set.RefTime = time.Time{}
	if now, known := c.c.Clock(); known {
		set.RefTime = now.UTC()
	}
	return set, nil
}

// Refresh brings the top-level metadata up to date (section 5.2 to 5.6). After
// an error the client trusts nothing until the next Refresh; what was
// verified and stored on the way stays stored.
func (c *Client) Refresh(ctx context.Context) error {
	c.trusted = nil
	set, err := c.start()
	if err != nil {
		return err
	}
	if err := c.roots(ctx, set); err != nil {
		return fmt.Errorf("update root: %w", err)
	}
	if err := c.timestamp(ctx, set); err != nil {
		return fmt.Errorf("update timestamp: %w", err)
	}
	if err := c.snapshot(ctx, set); err != nil {
		return fmt.Errorf("update snapshot: %w", err)
	}
	if _, err := c.targets(ctx, set, metadata.TARGETS, metadata.ROOT); err != nil {
		return fmt.Errorf("update targets: %w", err)
	}
	c.trusted = set
	return nil
}

// RootVersion is the version of the root that is trusted now, 0 before the
// first Refresh that succeeded.
func (c *Client) RootVersion() int64 {
	if c.trusted == nil {
		return 0
	}
	return c.trusted.Root.Signed.Version
}

// roots follows the chain of roots, one version after the other, first in the
// store and then in the repository: every root is verified by the one before
// it, down to the configured one. A store cannot bring in another chain.
func (c *Client) roots(ctx context.Context, set *trustedmetadata.TrustedMetadata) error {
	next := func() string { return strconv.FormatInt(set.Root.Signed.Version+1, 10) + ".root" }
	for range maxRotations {
		data, err := c.c.Store.Load(next())
		if err != nil || checkRoot(data) != nil {
			break
		}
		if _, err := set.UpdateRoot(data); err != nil {
			break
		}
	}
	for range maxRotations {
		name := next()
		data, err := c.fetch(ctx, name, maxRoot)
		if errors.Is(err, errAbsent) {
			break
		}
		if err != nil {
			return err
		}
		if err := checkRoot(data); err != nil {
			return err
		}
		if _, err := set.UpdateRoot(data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// Without ending, so that files named .json are the newest of each role.
		if err := c.c.Store.Save(name, data); err != nil {
			return fmt.Errorf("keep %s: %w", name, err)
		}
		if err := c.save(metadata.ROOT, data); err != nil {
			return err
		}
	}
	if set.Root.Signed.IsExpired(set.RefTime) {
		return fmt.Errorf("version %d: %w", set.Root.Signed.Version, ErrExpired)
	}
	return nil
}

func (c *Client) timestamp(ctx context.Context, set *trustedmetadata.TrustedMetadata) error {
	if data, err := c.load(metadata.TIMESTAMP); err == nil && checkTimestamp(data) == nil {
		// An expired or foreign one is no obstacle: go-tuf keeps an expired
		// one for the rollback check and drops a foreign one (5.4.3).
		_, _ = set.UpdateTimestamp(data)
	}
	data, err := c.fetch(ctx, metadata.TIMESTAMP, maxTimestamp)
	if err != nil {
		return err
	}
	if err := checkTimestamp(data); err != nil {
		return err
	}
	_, err = set.UpdateTimestamp(data)
	if errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		if set.Timestamp.Signed.IsExpired(set.RefTime) {
			return ErrExpired
		}
		return nil // 5.4.3.1: keep the one that is there
	}
	if err != nil {
		return expired(err)
	}
	return c.save(metadata.TIMESTAMP, data)
}

func (c *Client) snapshot(ctx context.Context, set *trustedmetadata.TrustedMetadata) error {
	meta := set.Timestamp.Signed.Meta["snapshot.json"]
	if data, err := c.load(metadata.SNAPSHOT); err == nil && checkSnapshot(data) == nil {
		// The stored one was held against its hashes when it was new; its
		// version must still be the timestamp's.
		if _, err := set.UpdateSnapshot(data, true); err == nil {
			return nil
		}
	}
	data, err := c.fetch(ctx, versioned(set, metadata.SNAPSHOT, meta.Version), bound(meta.Length, maxSnapshot))
	if err != nil {
		return err
	}
	if err := checkSnapshot(data); err != nil {
		return err
	}
	if _, err := set.UpdateSnapshot(data, false); err != nil {
		return expired(err)
	}
	return c.save(metadata.SNAPSHOT, data)
}

// targets returns the verified metadata of a targets role.
func (c *Client) targets(ctx context.Context, set *trustedmetadata.TrustedMetadata, role, parent string) (*metadata.TargetsType, error) {
	if known := set.Targets[role]; known != nil {
		return &known.Signed, nil
	}
	if data, err := c.load(role); err == nil && checkTargets(data) == nil {
		if md, err := set.UpdateDelegatedTargets(data, role, parent); err == nil {
			return &md.Signed, nil
		}
	}
	meta := set.Snapshot.Signed.Meta[role+".json"]
	if meta == nil {
		return nil, fmt.Errorf("the snapshot does not list role %q", role)
	}
	data, err := c.fetch(ctx, versioned(set, role, meta.Version), bound(meta.Length, maxTargets))
	if err != nil {
		return nil, err
	}
	if err := checkTargets(data); err != nil {
		return nil, fmt.Errorf("role %q: %w", role, err)
	}
	md, err := set.UpdateDelegatedTargets(data, role, parent)
	if err != nil {
		return nil, fmt.Errorf("role %q: %w", role, expired(err))
	}
	return &md.Signed, c.save(role, data)
}

func versioned(set *trustedmetadata.TrustedMetadata, role string, version int64) string {
	if !set.Root.Signed.ConsistentSnapshot {
		return role
	}
	return strconv.FormatInt(version, 10) + "." + role
}

// bound is the length that the metadata states, if it does and is not more
// than the limit.
func bound(stated, limit int64) int64 {
	if stated > 0 && stated < limit {
		return stated
	}
	return limit
}

func expired(err error) error {
	if errors.Is(err, &metadata.ErrExpiredMetadata{}) {
		return fmt.Errorf("%w: %w", ErrExpired, err)
	}
	return err
}
