package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"ringfence/firmware/supervise"
)

func TestTable(t *testing.T) {
	users := map[int]string{}
	for _, r := range table() {
		if err := r.Validate(); err != nil {
			t.Errorf("row %s: %v", r.Name, err)
		}
		if r.UID == 0 || users[r.UID] != "" {
			t.Errorf("role %s has user %d, shared with %q", r.Name, r.UID, users[r.UID])
		}
		users[r.UID] = r.Name
		if len(r.Caps) > 0 && r.Name != roleNet {
			t.Errorf("role %s has capabilities %v, want none", r.Name, r.Caps)
		}
	}
	var _ []supervise.Role = table()
}

func TestWhoMayAskWhat(t *testing.T) {
	tests := []struct {
		verb string
		uid  int
		want bool
	}{
		{verbStart, uidCall, true}, {verbStart, uidUI, false}, {verbStart, uidMedia, false}, {verbConfig, uidAgent, true},
		{verbConfig, uidCall, false}, {verbLease, uidNet, true}, {verbLease, uidAgent, false}, {"nonsense", uidAgent, false}, {verbSubscribe, uidMedia, false},
	}
	for _, tt := range tests {
		if got := allowed(tt.verb, tt.uid); got != tt.want {
			t.Errorf("allowed(%q, %d) = %v, want %v", tt.verb, tt.uid, got, tt.want)
		}
	}
}

func TestLogLine(t *testing.T) {
	var out bytes.Buffer
	newLog(&out, "call").Info("registered", "aor", "sip:100@ringfence.test", "reason", "a b\nringfence init: forged")
	want := "ringfence call: registered aor=sip:100@ringfence.test reason=\"a b\\nringfence init: forged\"\n"
	if out.String() != want {
		t.Errorf("line %q, want %q", out.String(), want)
	}
}

// TestLogOfHostileText: what peers send reaches no terminal as a command.
func TestLogOfHostileText(t *testing.T) {
	for _, text := range []string{"\x1b[2J", "\u009b2J", "\u202egpj", "\xff", "\x7f", "\u2028x", strings.Repeat("x", 1<<20)} {
		var out bytes.Buffer
		newLog(&out, "call").Info("event", "peer", text, "error", errors.New(text))
		line := strings.TrimSuffix(out.String(), "\n")
		if strings.ContainsFunc(line, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) || len(line) > 8*maxValue {
			t.Errorf("line of %.20q is %.80q (%d bytes)", text, line, len(line))
		}
	}
}

func TestStatePartition(t *testing.T) {
	sys, dev := t.TempDir(), t.TempDir()
	add := func(name, uevent string, image []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(sys, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, name, "uevent"), []byte(uevent), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dev, name), image, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ext4 := make([]byte, 4096)
	ext4[1024+0x38], ext4[1024+0x39] = 0x53, 0xef
	copy(ext4[1024+0x78:], "state")
	add("vda", "DEVNAME=vda\n", nil)
	add("vda1", "PARTNAME=ESP\n", make([]byte, 4096))
	if _, err := statePartition(sys, dev); err == nil {
		t.Error("no state partition: want an error")
	}
	add("vda2", "DEVNAME=vda2\nPARTN=2\n", ext4)
	if got, err := statePartition(sys, dev); err != nil || filepath.Base(got) != "vda2" {
		t.Errorf("statePartition = %q, %v, want vda2", got, err)
	}
	add("vdb1", "PARTNAME=state\n", nil)
	if _, err := statePartition(sys, dev); err == nil || !strings.Contains(err.Error(), "2 partitions") {
		t.Errorf("two state partitions: %v, want a refusal", err)
	}
}
