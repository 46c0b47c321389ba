package tuf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// errAbsent reports HTTP status 404.
var errAbsent = errors.New("the repository does not have it")

func fileName(name string) string { return url.PathEscape(name) + ".json" }

func (c *Client) load(name string) ([]byte, error) { return c.c.Store.Load(fileName(name)) }

func (c *Client) save(name string, data []byte) error {
	if err := c.c.Store.Save(fileName(name), data); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}

// fetch reads a metadata file of at most limit bytes.
func (c *Client) fetch(ctx context.Context, name string, limit int64) ([]byte, error) {
	resp, err := c.get(ctx, c.c.MetadataURL+fileName(name), 0)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", name, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("fetch %s: more than %d bytes: %w", name, limit, ErrMismatch)
	}
	return data, nil
}

// get asks for the content from an offset on. The caller closes the body; its
// status is 200, or 206 when the offset was obeyed.
func (c *Client) get(ctx context.Context, address string, from int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	// Lengths in the metadata count the bytes as they are.
	req.Header.Set("Accept-Encoding", "identity")
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := c.c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusPartialContent && from > 0:
		return resp, nil
	case resp.StatusCode == http.StatusNotFound:
		err = errAbsent
	default:
		err = fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	resp.Body.Close()
	return nil, err
}
