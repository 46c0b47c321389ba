package tuf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Target is a file that trusted metadata describes.
type Target struct {
	Path   string
	Role   string            // the role that signed for it, "targets" or a delegated one
	Length int64             // bytes
	Hashes map[string][]byte // by algorithm: "sha256", "sha512"; at least one of them
	Custom json.RawMessage   // the custom field as signed, nil if there is none
}

// Target finds the file by its path (section 5.6.7): the first role in the
// order of trust that lists it. It refreshes if that was not done yet.
func (c *Client) Target(ctx context.Context, name string) (*Target, error) {
	if c.trusted == nil {
		if err := c.Refresh(ctx); err != nil {
			return nil, err
		}
	}
	type visit struct{ role, parent string }
	todo := []visit{{metadata.TARGETS, metadata.ROOT}}
	seen := map[string]bool{}
	for len(todo) > 0 && len(seen) <= maxDelegation {
		now := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[now.role] {
			continue
		}
		md, err := c.targets(ctx, c.trusted, now.role, now.parent)
		if err != nil {
			return nil, err
		}
		if file := md.Targets[name]; file != nil {
			return newTarget(name, now.role, file)
		}
		seen[now.role] = true
		children, terminating := delegated(md.Delegations, name)
		if terminating {
			todo = nil
		}
		for _, child := range slices.Backward(children) {
			todo = append(todo, visit{child, now.role})
		}
	}
	return nil, fmt.Errorf("%q: %w", name, ErrNotFound)
}

// delegated lists the roles that may speak for the path, in order of trust,
// and says whether no other role may be asked after them.
func delegated(d *metadata.Delegations, name string) (roles []string, terminating bool) {
	if d == nil {
		return nil, false
	}
	if d.Roles == nil {
		if d.SuccinctRoles == nil {
			return nil, false
		}
		for _, r := range d.SuccinctRoles.GetRolesForTarget(name) {
			roles = append(roles, r.Name)
		}
		return roles, true // TAP 15: succinct roles end the search
	}
	for _, r := range d.Roles {
		if !speaksFor(r, name) {
			continue
		}
		roles = append(roles, r.Name)
		if r.Terminating {
			return roles, true
		}
	}
	return roles, false
}

// speaksFor is go-tuf's IsDelegatedPath, but with hash prefixes in
// hexadecimal, as section 4.5 has them.
func speaksFor(r metadata.DelegatedRole, name string) bool {
	if len(r.Paths) == 0 {
		digest := sha256.Sum256([]byte(name))
		text := hex.EncodeToString(digest[:])
		return slices.ContainsFunc(r.PathHashPrefixes, func(p string) bool { return strings.HasPrefix(text, p) })
	}
	ok, err := r.IsDelegatedPath(name)
	return err == nil && ok
}

func newTarget(name, role string, file *metadata.TargetFiles) (*Target, error) {
	t := &Target{Path: name, Role: role, Length: file.Length, Hashes: map[string][]byte{}}
	for algorithm, digest := range file.Hashes {
		t.Hashes[algorithm] = digest
	}
	if file.Custom != nil {
		t.Custom = bytes.Clone(*file.Custom)
	}
	if _, err := t.sums(); err != nil {
		return nil, err
	}
	return t, nil
}

// SHA256 is the digest in lower-case hexadecimal, "" if the metadata has none.
func (t *Target) SHA256() string { return hex.EncodeToString(t.Hashes["sha256"]) }

// sums makes one running hash for each algorithm that is known.
func (t *Target) sums() (map[string]hash.Hash, error) {
	sums := map[string]hash.Hash{}
	for algorithm := range t.Hashes {
		switch algorithm {
		case "sha256":
			sums[algorithm] = sha256.New()
		case "sha512":
			sums[algorithm] = sha512.New()
		}
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("target %q has no SHA-256 or SHA-512 hash", t.Path)
	}
	return sums, nil
}

// Verify reads content to its end and holds it against the metadata.
func (t *Target) Verify(content io.Reader) error {
	sums, err := t.sums()
	if err != nil {
		return err
	}
	n, err := io.Copy(fanOut(sums), io.LimitReader(content, t.Length+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", t.Path, err)
	}
	return t.judge(sums, n)
}

func (t *Target) judge(sums map[string]hash.Hash, n int64) error {
	if n != t.Length {
		return fmt.Errorf("%s: %d bytes, want %d: %w", t.Path, n, t.Length, ErrMismatch)
	}
	for algorithm, sum := range sums {
		if !bytes.Equal(sum.Sum(nil), t.Hashes[algorithm]) {
			return fmt.Errorf("%s: %s differs: %w", t.Path, algorithm, ErrMismatch)
		}
	}
	return nil
}

func fanOut(sums map[string]hash.Hash, more ...io.Writer) io.Writer {
	for _, sum := range sums {
		more = append(more, sum)
	}
	return io.MultiWriter(more...)
}

// Download writes the target to dst, from where an earlier try ended: have
// reads what dst holds already (nil: nothing) and may be shorter than the
// target, never longer. Bytes reach dst before they are verified; dst may be used only
// after a nil error. After [ErrMismatch] all of dst is worthless; after any
// other error it may be resumed.
func (c *Client) Download(ctx context.Context, t *Target, dst io.Writer, have io.Reader) error {
	sums, err := t.sums()
	if err != nil {
		return err
	}
	var done int64
	if have != nil {
		if done, err = io.Copy(fanOut(sums), io.LimitReader(have, t.Length+1)); err != nil {
			return fmt.Errorf("read what was downloaded of %s: %w", t.Path, err)
		}
	}
	if done >= t.Length {
		return t.judge(sums, done)
	}
	body, err := c.openTarget(ctx, t, done)
	if err != nil {
		return fmt.Errorf("download %s: %w", t.Path, err)
	}
	defer body.Close()
	n, err := io.Copy(fanOut(sums, dst), io.LimitReader(body, t.Length-done))
	done += n
	if err == nil && done < t.Length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("download %s: %d of %d bytes: %w", t.Path, done, t.Length, err)
	}
	if extra, _ := io.CopyN(io.Discard, body, 1); extra != 0 {
		return fmt.Errorf("%s: more than %d bytes: %w", t.Path, t.Length, ErrMismatch)
	}
	return t.judge(sums, done)
}

// openTarget opens the content at an offset, whether or not the server obeys it.
func (c *Client) openTarget(ctx context.Context, t *Target, from int64) (io.ReadCloser, error) {
	if c.trusted == nil {
		return nil, errors.New("no trusted metadata: refresh first")
	}
	var last error
	for _, name := range t.remoteNames(c.trusted.Root.Signed.ConsistentSnapshot) {
		resp, err := c.get(ctx, c.c.TargetsURL+escape(name), from)
		if last = err; errors.Is(err, errAbsent) {
			continue // section 6.2: under either of its hashes
		}
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusPartialContent {
			var start int64
			if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &start); err != nil || start != from {
				resp.Body.Close()
				return nil, fmt.Errorf("the server sent range %q, asked from %d", resp.Header.Get("Content-Range"), from)
			}
			return resp.Body, nil
		}
		if _, err := io.CopyN(io.Discard, resp.Body, from); err != nil {
			resp.Body.Close()
			return nil, err
		}
		return resp.Body, nil
	}
	return nil, last
}

// remoteNames are the names under which the repository may have the target.
func (t *Target) remoteNames(consistent bool) []string {
	if !consistent {
		return []string{t.Path}
	}
	var names []string
	for _, algorithm := range []string{"sha256", "sha512"} {
		if digest := t.Hashes[algorithm]; len(digest) > 0 {
			dir, base := path.Split(t.Path)
			names = append(names, dir+hex.EncodeToString(digest)+"."+base)
		}
	}
	return names
}

func escape(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}
