// Package tooltest decides what a test does when something of the machine is
// missing: skip and say so, or fail where RINGFENCE_REQUIRE is set, as
// scripts/test does. It is not for files that only some checkouts have beside
// them; tests without those always skip.
package tooltest

import (
	"os"
	"os/exec"
	"testing"
)

// Required says whether a missing tool is a failure.
func Required() bool { return os.Getenv("RINGFENCE_REQUIRE") != "" }

// Need ends the test unless every program is in PATH.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			Missingf(t, "%s is not installed (scripts/setup installs it)", name)
		}
	}
}

// Missingf ends the test for the reason given.
func Missingf(t testing.TB, format string, args ...any) {
	t.Helper()
	if Required() {
		t.Fatalf(format, args...)
	}
	t.Skipf("SKIPPED, NOTHING WAS TESTED: "+format, args...)
}

// NeedBoards ends the test unless emulated boards may be started, which
// scripts/test allows by RINGFENCE_QEMU=1.
func NeedBoards(t testing.TB) {
	t.Helper()
	if os.Getenv("RINGFENCE_QEMU") != "1" {
		t.Skip("SKIPPED, NOTHING WAS BOOTED: RINGFENCE_QEMU=1 is not set; run scripts/test")
	}
}
