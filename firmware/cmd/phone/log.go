package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// newLog returns a logger that writes one line per event:
// "ringfence <role>: <event> key=value ...".
func newLog(w io.Writer, role string) *slog.Logger {
	return slog.New(&lineHandler{w: w, prefix: "ringfence " + role + ": ", mu: new(sync.Mutex)})
}

type lineHandler struct {
	w      io.Writer
	prefix string
	attrs  string
	mu     *sync.Mutex
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.prefix + clean(r.Message) + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		appendAttr(&b, a)
		return true
	})
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String()) // one write: lines of several roles do not mix
	return err
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		appendAttr(&b, a)
	}
	next := *h
	next.attrs += b.String()
	return &next
}

func (h *lineHandler) WithGroup(string) slog.Handler { return h } // lines are flat

// maxValue bounds one value, in bytes: strangers choose some of them.
const maxValue = 1024

func appendAttr(b *strings.Builder, a slog.Attr) {
	v := a.Value.Resolve().String()
	v = v[:min(len(v), maxValue)]
	// Quote escapes all that is not printable: control characters of both
	// ranges, bytes that are no UTF-8, marks that reorder text (R44).
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r == ' ' || r == '"' || r == utf8.RuneError || !unicode.IsPrint(r) }) {
		v = strconv.Quote(v)
	}
	b.WriteString(" " + clean(a.Key) + "=" + v)
}

// clean keeps an event on its line, and terminals from obeying it.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

// bootClock is the time since power-on in seconds, sleep included.
func bootClock() float64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("boot clock: %v", err)) // every Linux has it
	}
	return float64(ts.Nano()) / 1e9
}

// at prints a boot clock time with milliseconds.
func at(seconds float64) string { return strconv.FormatFloat(seconds, 'f', 3, 64) }
