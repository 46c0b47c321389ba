package translog

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// maxAnswer bounds a witness's answer, in bytes.
const maxAnswer = 64 << 10

// calls carries the questions to the witnesses. It bounds the answers and
// keeps the last refusal of each witness, so that Append can say who refused
// and why; the storage library only prints it.
type calls struct {
	base http.RoundTripper

	mu       sync.Mutex
	refusals map[string]string // address to what went wrong last
}

var _ http.RoundTripper = (*calls)(nil)

func newCalls(base http.RoundTripper) *calls {
	if base == nil {
		base = http.DefaultTransport
	}
	return &calls{base: base, refusals: map[string]string{}}
}

// RoundTrip implements http.RoundTripper.
func (c *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	address := r.URL.Host + r.URL.Path
	resp, err := c.base.RoundTrip(r)
	if err != nil {
		c.note(address, err.Error())
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		c.note(address, err.Error())
		return nil, err
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	refusal := ""
	if resp.StatusCode != http.StatusOK {
		refusal = fmt.Sprintf("%s: %.200s", resp.Status, strings.TrimSpace(string(body)))
	}
	c.note(address, refusal)
	return resp, nil
}

func (c *calls) note(address, refusal string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if refusal == "" {
		delete(c.refusals, address)
		return
	}
	c.refusals[address] = refusal
}

// explain adds the refusals to an error.
func (c *calls) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.refusals) == 0 {
		return err
	}
	var list []string
	for address, refusal := range c.refusals {
		list = append(list, fmt.Sprintf("witness %s: %s", address, refusal))
	}
	slices.Sort(list)
	return fmt.Errorf("%w (%s)", err, strings.Join(list, "; "))
}
