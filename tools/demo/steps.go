package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Step is one row of the demo's table and of summary.json.
type Step struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	Detail  string  `json:"detail"`
}

// Summary is the content of build/demo/summary.json.
type Summary struct {
	Steps   []Step  `json:"steps"`
	Seconds float64 `json:"seconds"` // wall time of the whole demo
}

// rows runs steps in order and remembers how each went. After a failure the
// rows that depend on it are marked as not reached.
type rows struct {
	out     io.Writer
	started time.Time
	steps   []Step
	failed  bool
}

func newRows(out io.Writer) *rows { return &rows{out: out, started: time.Now()} }

// run performs one row. do returns a detail for the table.
func (r *rows) run(ctx context.Context, name string, do func(context.Context) (string, error)) {
	if r.failed {
		r.steps = append(r.steps, Step{Name: name, Detail: "not reached"})
		return
	}
	begin := time.Now()
	fmt.Fprintf(r.out, "[%5.1fs] %s ...\n", time.Since(r.started).Seconds(), name)
	detail, err := do(ctx)
	step := Step{Name: name, OK: err == nil, Seconds: time.Since(begin).Seconds(), Detail: detail}
	if err != nil {
		step.Detail = err.Error()
		r.failed = true
		fmt.Fprintf(r.out, "         FAILED: %v\n", err)
	} else if detail != "" {
		fmt.Fprintf(r.out, "         %s\n", detail)
	}
	r.steps = append(r.steps, step)
}

// progress prints one line of what is going on inside a row.
func (r *rows) progress(format string, args ...any) {
	fmt.Fprintf(r.out, "[%5.1fs]   %s\n", time.Since(r.started).Seconds(), fmt.Sprintf(format, args...))
}

// write leaves summary.json in dir.
func (r *rows) write(dir string) error {
	raw, err := json.MarshalIndent(Summary{r.steps, time.Since(r.started).Seconds()}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "summary.json"), append(raw, '\n'), 0o644)
}

// table prints the result and reports whether every row passed.
func (r *rows) table() bool {
	ok := true
	width := 0
	for _, s := range r.steps {
		width = max(width, len(s.Name))
	}
	fmt.Fprintf(r.out, "\n%-*s  %-6s %8s  %s\n", width, "step", "result", "seconds", "detail")
	for _, s := range r.steps {
		result := "ok"
		if !s.OK {
			result, ok = "FAILED", false
		}
		fmt.Fprintf(r.out, "%-*s  %-6s %8.1f  %s\n", width, s.Name, result, s.Seconds, firstLine(s.Detail))
	}
	fmt.Fprintf(r.out, "\n%d of %d rows passed in %.0f s\n", r.passed(), len(r.steps), time.Since(r.started).Seconds())
	return ok
}

func (r *rows) passed() int {
	n := 0
	for _, s := range r.steps {
		if s.OK {
			n++
		}
	}
	return n
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
