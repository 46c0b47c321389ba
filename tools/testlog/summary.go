package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// event is one line of go test -json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Output     string
}

// key names a test, or a package when Test is empty.
type key struct{ pkg, test string }

type summary struct {
	out     io.Writer
	output  map[key]*strings.Builder
	open    map[string]bool // packages that started and have not ended
	lines   []string        // go test's own line of each package
	skipped []string
	passed  int
	failed  int
	bad     bool
}

// Summarize copies what matters of a go test -json stream from r to w and
// reports whether everything passed. Lines that are not JSON are copied.
func Summarize(r io.Reader, w io.Writer) (bool, error) {
	s := &summary{out: w, output: map[key]*strings.Builder{}, open: map[string]bool{}}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			s.line(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, fmt.Errorf("read test stream: %w", err)
		}
	}
	s.close()
	return !s.bad, nil
}

func (s *summary) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		fmt.Fprintf(s.out, "%s", line)
		return
	}
	k := key{e.Package, e.Test}
	switch e.Action {
	case "start":
		s.open[e.Package] = true
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "build-fail":
		s.bad = true
	case "output":
		s.keep(k, e.Output)
	case "pass", "fail", "skip":
		s.end(k, e.Action)
	}
}

func (s *summary) keep(k key, text string) {
	if s.output[k] == nil {
		s.output[k] = &strings.Builder{}
	}
	s.output[k].WriteString(text)
}

func (s *summary) take(k key) string {
	defer delete(s.output, k)
	if s.output[k] == nil {
		return ""
	}
	return s.output[k].String()
}

func (s *summary) end(k key, action string) {
	text := s.take(k)
	if k.test == "" {
		s.endPackage(k.pkg, action, text)
		return
	}
	switch action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped = append(s.skipped, k.pkg+" "+k.test+": "+reason(text))
	case "fail":
		s.failed++
		s.bad = true
		fmt.Fprint(s.out, text)
	}
}

// endPackage prints the package's own line, and all it said when it failed.
func (s *summary) endPackage(pkg, action, text string) {
	delete(s.open, pkg)
	last := ""
	for _, line := range strings.SplitAfter(text, "\n") {
		if isOwnLine(line) {
			last = line
		} else if action == "fail" {
			fmt.Fprint(s.out, line)
		}
	}
	if last == "" {
		last = fmt.Sprintf("%s\t%s\n", action, pkg)
	}
	fmt.Fprint(s.out, last)
	s.lines = append(s.lines, last)
	s.bad = s.bad || action == "fail"
}

func isOwnLine(line string) bool {
	for _, start := range []string{"ok  \t", "FAIL\t", "?   \t", "\t"} {
		if strings.HasPrefix(line, start) && strings.Contains(line, "ringfence") {
			return true
		}
	}
	return false
}

// reason is the last indented line of a skipped test's output.
func reason(text string) string {
	found := "no reason given"
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			found = line
		}
	}
	return found
}

func (s *summary) close() {
	for pkg := range s.open {
		s.bad = true
		fmt.Fprintf(s.out, "cut off: %s started and never ended\n", pkg)
		for k, text := range s.output {
			if k.pkg == pkg {
				fmt.Fprint(s.out, text.String())
			}
		}
	}
	if len(s.lines) == 0 {
		s.bad = true
		fmt.Fprintln(s.out, "no package was tested")
	}
	if len(s.skipped) > 0 {
		fmt.Fprintf(s.out, "\nSKIPPED %d:\n", len(s.skipped))
		for _, name := range s.skipped {
			fmt.Fprintf(s.out, "  SKIP %s\n", name)
		}
	}
	fmt.Fprintf(s.out, "\n%d passed, %d failed, %d skipped in %d packages\n", s.passed, s.failed, len(s.skipped), len(s.lines))
	for _, line := range s.lines {
		if !strings.HasPrefix(line, "?") && !strings.HasPrefix(line, "\t") {
			fmt.Fprint(s.out, line)
		}
	}
	if s.bad {
		fmt.Fprintln(s.out, "FAIL")
	}
}
