package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// readmeCommands returns the command lines of README.md that begin with
// "ringfence ", without their comments.
func readmeCommands(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(line, "    ") {
			continue
		}
		line, _, _ = strings.Cut(line, " #")
		for command := range strings.SplitSeq(line, ";") {
			if command = strings.TrimSpace(command); strings.HasPrefix(command, "ringfence ") {
				found = append(found, command)
			}
		}
	}
	return found
}

// accepts says whether the command line would be run rather than refused.
func accepts(line string) error {
	line = strings.ReplaceAll(line, `"Ringfence Lab"`, "Lab")
	command, args, err := newRoot().Find(strings.Fields(line)[1:])
	if err != nil {
		return err
	}
	if command.RunE == nil {
		return cobra.NoArgs(command, []string{"a group of commands, not a command"})
	}
	if err := command.ParseFlags(args); err != nil {
		return err
	}
	if err := command.ValidateRequiredFlags(); err != nil {
		return err
	}
	return command.ValidateArgs(command.Flags().Args())
}

func TestReadmeCommands(t *testing.T) {
	commands := readmeCommands(t)
	if len(commands) < 10 {
		t.Fatalf("README.md has %d commands, want at least 10: is it still read?", len(commands))
	}
	for _, line := range commands {
		if err := accepts(line); err != nil {
			t.Errorf("README.md says %q: %v", line, err)
		}
	}
	for _, line := range []string{"ringfence device", "ringfence phone list", "ringfence device list --colour", "ringfence device show", "ringfence flash --out x"} {
		if accepts(line) == nil {
			t.Errorf("accepts(%q) = nil, want an error", line)
		}
	}
}
