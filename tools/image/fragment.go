package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// fragment is a wanted kernel configuration: symbol -> value, "n" when off.
type fragment map[string]string

var (
	symbolOn  = regexp.MustCompile(`^(CONFIG_[A-Za-z0-9_]+)=(.+)$`)
	symbolOff = regexp.MustCompile(`^# (CONFIG_[A-Za-z0-9_]+) is not set$`)
)

// parseFragment reads kernel configuration text. Other comments and blank
// lines are allowed, anything else is an error.
func parseFragment(text string) (fragment, error) {
	f := fragment{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if m := symbolOn.FindStringSubmatch(line); m != nil {
			f[m[1]] = m[2]
		} else if m := symbolOff.FindStringSubmatch(line); m != nil {
			f[m[1]] = "n"
		} else if line != "" && !strings.HasPrefix(line, "#") {
			return nil, fmt.Errorf("line %d: %q is no kernel configuration", i+1, line)
		}
	}
	return f, nil
}

func mergeFragments(paths []string) (fragment, error) {
	if len(paths) == 0 {
		return nil, errors.New("kernel without a configuration fragment")
	}
	all := fragment{}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("kernel fragment: %w", err)
		}
		f, err := parseFragment(string(raw))
		if err != nil {
			return nil, fmt.Errorf("kernel fragment %s: %w", path, err)
		}
		for symbol, value := range f {
			all[symbol] = value
		}
	}
	return all, nil
}

// text is the canonical form: sorted, one line per symbol.
func (f fragment) text() string {
	lines := make([]string, 0, len(f))
	for symbol, value := range f {
		if value == "n" {
			lines = append(lines, "# "+symbol+" is not set")
		} else {
			lines = append(lines, symbol+"="+value)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// check reports every wanted symbol that a finished .config does not have, so
// that a missing dependency cannot silently drop an option.
func (f fragment) check(config []byte) error {
	got, err := parseFragment(string(config))
	if err != nil {
		return fmt.Errorf("read .config: %w", err)
	}
	var missed []string
	for symbol, want := range f {
		have, ok := got[symbol]
		if !ok {
			have = "n"
		}
		if have != want {
			missed = append(missed, fmt.Sprintf("%s=%s (want %s)", symbol, have, want))
		}
	}
	if len(missed) > 0 {
		slices.Sort(missed)
		return fmt.Errorf("kernel configuration did not take: %s", strings.Join(missed, ", "))
	}
	return nil
}

// Fragments returns the configuration fragments of the board in folder dir;
// test adds the one that no product image may contain.
func Fragments(dir string, test bool) []string {
	f := []string{filepath.Join(dir, "kernel.frag")}
	if test {
		f = append(f, filepath.Join(dir, "test.frag"))
	}
	return f
}
