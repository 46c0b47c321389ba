// Package registrar tells the call server (Kamailio) who may register: it
// writes the site's configuration and keeps the live table DeviceID ->
// address-of-record, whose removal is the instant revocation. It carries no
// signalling itself and decides nothing about devices.
//
// Registration needs two things at once: a TLS 1.3 client certificate of the
// owner's SIP CA whose first URI is sip:<DeviceID>@<domain>, and a row of that
// DeviceID whose address-of-record is the one claimed in From and To.
package registrar

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"ringfence/provisioning/wire/device"
)

// Errors that a caller branches on.
var (
	// ErrPending: the change is recorded and will be made as soon as the
	// call server answers; until then it is not in force.
	ErrPending = errors.New("call server not reached, change pending")
	// ErrTaken: another device has this line.
	ErrTaken = errors.New("line belongs to another device")
)

// Config of a Connector. Every field without a default must be set.
type Config struct {
	Admin    netip.AddrPort // the call server's administrative HTTP, on loopback
	Domain   string
	Log      *slog.Logger
	Interval time.Duration // between looks at the call server; zero = 1 s
}

// Connector keeps the call server's table equal to its own. It is safe for
// concurrent use.
type Connector struct {
	cfg   Config
	http  *http.Client
	epoch string // of this connector; the call server forgets it when it restarts

	mu    sync.Mutex // held while talking to the call server: changes are ordered
	lines map[device.ID]string
	dirty map[device.ID]string // AoR to remove, "" = none; key needs a push
}

// New checks cfg; it connects to nothing.
func New(cfg Config) (*Connector, error) {
	if !cfg.Admin.IsValid() || !cfg.Admin.Addr().IsLoopback() {
		return nil, fmt.Errorf("registrar: admin address %v must be loopback", cfg.Admin)
	}
	if !plainName(cfg.Domain) || cfg.Log == nil {
		return nil, fmt.Errorf("registrar: domain %q and a log are required", cfg.Domain)
	}
	if cfg.Interval <= 0 {
		cfg.Interval = time.Second
	}
	return &Connector{cfg: cfg, epoch: rand.Text(), lines: map[device.ID]string{}, dirty: map[device.ID]string{},
		http: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

// Allow lets id register as user, replacing the line it had.
func (c *Connector) Allow(ctx context.Context, id device.ID, user string) error {
	if _, err := device.ParseID(string(id)); err != nil {
		return fmt.Errorf("allow: %w", err)
	}
	if !validUser(user) {
		return fmt.Errorf("allow %s: user %q: want 1 to 32 of a-z, 0-9, '.', '-', '_', '+'", id, user)
	}
	aor := "sip:" + user + "@" + c.cfg.Domain
	c.mu.Lock()
	defer c.mu.Unlock()
	for other, line := range c.lines {
		if line == aor && other != id {
			return fmt.Errorf("allow %s: %s has %s: %w", id, other, aor, ErrTaken)
		}
	}
	old := c.lines[id]
	c.lines[id] = aor
	c.mark(id, old, aor)
	return c.push(ctx, id)
}

// Revoke takes id's line away: its next request is refused, its registration
// removed and its connection closed. Revoking an unknown id is no error.
func (c *Connector) Revoke(ctx context.Context, id device.ID) error {
	if _, err := device.ParseID(string(id)); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.lines[id]
	delete(c.lines, id)
	c.mark(id, old, "")
	return c.push(ctx, id)
}

// mark notes that id must be pushed and which registration must go with it.
func (c *Connector) mark(id device.ID, old, now string) {
	if old == now {
		old = ""
	}
	if pending := c.dirty[id]; pending != "" && old == "" {
		old = pending
	}
	c.dirty[id] = old
}

// push makes the call server's row of id equal to ours. The row goes first,
// then the registration, then the connection: in this order the phone cannot
// come back in between.
func (c *Connector) push(ctx context.Context, id device.ID) error {
	err := c.pushRow(ctx, id)
	if old := c.dirty[id]; err == nil && (old != "" || c.lines[id] == "") {
		err = errors.Join(c.removeContact(ctx, old), c.kick(ctx, id))
	}
	if err != nil {
		return fmt.Errorf("line of %s: %w: %w", id, ErrPending, err)
	}
	delete(c.dirty, id)
	return nil
}

func (c *Connector) pushRow(ctx context.Context, id device.ID) error {
	if aor, ok := c.lines[id]; ok {
		return c.call(ctx, nil, "htable.sets", "line", string(id), aor)
	}
	err := c.call(ctx, nil, "htable.delete", "line", string(id))
	return ignoreAbsent(err)
}

func (c *Connector) removeContact(ctx context.Context, aor string) error {
	if aor == "" {
		return nil
	}
	return ignoreAbsent(c.call(ctx, nil, "ul.rm", "location", strings.TrimPrefix(aor, "sip:")))
}

// Run looks at the call server until ctx ends: after a restart it fills the
// table again, and it repeats what could not be done.
func (c *Connector) Run(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Interval)
	defer tick.Stop()
	reached := true
	for {
		err := c.reconcile(ctx)
		if err != nil && reached && ctx.Err() == nil {
			c.cfg.Log.Warn("call server not reached", "error", err)
		}
		reached = err == nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Connector) reconcile(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, err := c.knowsUs(ctx)
	if err != nil {
		return err
	}
	if !known {
		return c.refill(ctx)
	}
	for id := range c.dirty {
		if err := c.push(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// knowsUs looks for our epoch, which a restart of either side changes.
func (c *Connector) knowsUs(ctx context.Context) (bool, error) {
	var got struct {
		Item struct {
			Value string `json:"value"`
		} `json:"item"`
	}
	err := c.call(ctx, &got, "htable.get", "meta", "epoch")
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	return got.Item.Value == c.epoch, err
}

// refill replaces the whole table; the epoch comes last, so that an
// interrupted refill is repeated.
func (c *Connector) refill(ctx context.Context) error {
	if err := c.call(ctx, nil, "htable.flush", "line"); err != nil {
		return err
	}
	for id, aor := range c.lines {
		if err := c.call(ctx, nil, "htable.sets", "line", string(id), aor); err != nil {
			return err
		}
	}
	for id := range c.dirty {
		if err := c.push(ctx, id); err != nil {
			return err
		}
	}
	if err := c.call(ctx, nil, "htable.sets", "meta", "epoch", c.epoch); err != nil {
		return err
	}
	c.cfg.Log.Info("call server's table filled", "lines", len(c.lines))
	return nil
}

var errAbsent = errors.New("call server has no such entry")

// absent recognises how Kamailio 5 says that a key is not there: htable.get
// answers 500 with a text, ul.rm 404.
func absent(code int, text string) bool {
	text = strings.ToLower(text)
	for _, known := range []string{"not found", "doesn't exist", "no such", "not exist"} {
		if strings.Contains(text, known) {
			return true
		}
	}
	return code == http.StatusNotFound
}

func ignoreAbsent(err error) error {
	if errors.Is(err, errAbsent) {
		return nil
	}
	return err
}

// call makes one JSON-RPC request. Kamailio answers an error with an HTTP
// status and a body that says more.
func (c *Connector) call(ctx context.Context, result any, method string, params ...string) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	raw, err := c.do(ctx, http.MethodPost, "/RPC", body)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("%s: answer %.80q: %w", method, raw, err)
	}
	if e := answer.Error; e != nil {
		if absent(e.Code, e.Message) {
			return fmt.Errorf("%s: %s: %w", method, e.Message, errAbsent)
		}
		return fmt.Errorf("%s: %d %s", method, e.Code, e.Message)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// kick closes the device's connection; none is fine.
func (c *Connector) kick(ctx context.Context, id device.ID) error {
	_, err := c.do(ctx, http.MethodGet, "/kick/"+string(id), nil)
	return err
}

func (c *Connector) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.cfg.Admin.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // read to its bound below
	return io.ReadAll(io.LimitReader(res.Body, 1<<20))
}

func validUser(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-_+") == ""
}

func plainName(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}
