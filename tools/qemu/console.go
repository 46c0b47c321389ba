package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
)

// ErrExited is returned by waits on a machine that is no longer running.
var ErrExited = errors.New("machine has exited")

// tailBytes of the console are quoted in errors.
const tailBytes = 1500

// Console holds everything that the board's serial console printed since
// power-on. It is safe for concurrent use.
type Console struct {
	input io.Writer

	mu      sync.Mutex
	text    []byte
	closed  bool
	changed chan struct{}
}

func newConsole(input io.Writer) *Console {
	return &Console{input: input, changed: make(chan struct{})}
}

// capture copies from the serial line to memory and to log until the line ends.
func (c *Console) capture(line io.Reader, log *os.File) {
	buffer := make([]byte, 4096)
	for {
		n, err := line.Read(buffer)
		if n > 0 {
			// The memory copy is what tests rely on; a full disk must not stop a machine.
			_, _ = log.Write(buffer[:n])
		}
		c.mu.Lock()
		c.text = append(c.text, buffer[:n]...)
		c.closed = err != nil
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Write types on the serial console.
func (c *Console) Write(p []byte) (int, error) { return c.input.Write(p) }

// Text returns a copy of everything printed so far.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Expect waits until pattern occurs anywhere in the output since power-on and
// returns the first match and its groups. It ends with ctx, or with ErrExited.
func (c *Console) Expect(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	return c.Reader().Expect(ctx, pattern)
}

// ExpectString is Expect for a literal text.
func (c *Console) ExpectString(ctx context.Context, text string) error {
	return c.Reader().ExpectString(ctx, text)
}

// Reader returns a new cursor that stands at power-on.
func (c *Console) Reader() *Reader { return &Reader{console: c} }

// Reader is a cursor in a console: each Expect goes on behind the last match.
// It is not safe for concurrent use; make one per goroutine.
type Reader struct {
	console *Console
	offset  int
}

// SkipAll moves the cursor behind everything printed so far.
func (r *Reader) SkipAll() {
	r.console.mu.Lock()
	defer r.console.mu.Unlock()
	r.offset = len(r.console.text)
}

// ExpectString is Expect for a literal text.
func (r *Reader) ExpectString(ctx context.Context, text string) error {
	_, err := r.Expect(ctx, regexp.MustCompile(regexp.QuoteMeta(text)))
	return err
}

// Expect waits for pattern behind the cursor, moves the cursor behind the match
// and returns the match and its groups. A match may grow while output arrives:
// end patterns with \n or \s where that matters.
func (r *Reader) Expect(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		groups, closed, changed := r.match(pattern)
		switch {
		case groups != nil:
			return groups, nil
		case closed:
			return nil, fmt.Errorf("console: expect %q: %w; it ends with:\n%s", pattern, ErrExited, r.tail())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("console: expect %q: %w; it ends with:\n%s", pattern, ctx.Err(), r.tail())
		}
	}
}

func (r *Reader) match(pattern *regexp.Regexp) (groups []string, closed bool, changed <-chan struct{}) {
	c := r.console
	c.mu.Lock()
	defer c.mu.Unlock()
	text := c.text[r.offset:]
	if at := pattern.FindSubmatchIndex(text); at != nil {
		for i := 0; i < len(at); i += 2 {
			group := ""
			if at[i] >= 0 {
				group = string(text[at[i]:at[i+1]])
			}
			groups = append(groups, group)
		}
		r.offset += at[1]
	}
	return groups, c.closed, c.changed
}

func (r *Reader) tail() string {
	text := r.console.Text()
	return text[max(0, len(text)-tailBytes):]
}
