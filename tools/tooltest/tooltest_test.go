package tooltest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const absent = "no-such-program-of-ringfence"

// TestNeed runs TestAbsent in a process of its own with either environment.
func TestNeed(t *testing.T) {
	tests := []struct {
		name, require string
		fails         bool
		want          string
	}{
		{"ordinary run skips", "", false, "--- SKIP: TestAbsent"},
		{"scripts/test fails", "1", true, "--- FAIL: TestAbsent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestAbsent$", "-test.v")
			cmd.Env = append(os.Environ(), "TOOLTEST_ABSENT=1", "RINGFENCE_REQUIRE="+tt.require)
			out, err := cmd.CombinedOutput()
			if (err != nil) != tt.fails {
				t.Errorf("exit = %v, want a failure: %v", err, tt.fails)
			}
			for _, want := range []string{tt.want, absent + " is not installed"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("output = %q, want %q in it", out, want)
				}
			}
		})
	}
}

func TestAbsent(t *testing.T) {
	name := os.Args[0]
	if os.Getenv("TOOLTEST_ABSENT") != "" {
		name = absent
	}
	Need(t, name)
}
