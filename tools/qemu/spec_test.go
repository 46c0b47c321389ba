package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadSpecRefuses(t *testing.T) {
	good, err := os.ReadFile(boardDir + "qemu.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, old, new, want string }{
		{"control", "", "", ""},
		{"unknown key", `cores = 1`, "cores = 1\nradio = true", "strict"},
		{"no cores", `cores = 1`, "cores = 0", "cores"},
		{"slot used twice", `slot = "0x3"`, `slot = "0x2"`, "taken"},
		{"floating slot", `slot = "0x3"`, ``, "no fixed slot"},
		{"unknown role", `role = "random"`, `role = "radio"`, "unknown role"},
		{"two of a role", `role = "random"`, `role = "disk"`, "second device"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "qemu.toml")
			text := strings.Replace(string(good), test.old, test.new, 1)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadSpec(path)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("LoadSpec(%s) = %v, want an error with %q", test.name, err, test.want)
			}
		})
	}
}

func TestConfigRefuses(t *testing.T) {
	s, err := LoadSpec(boardDir + "qemu.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"nothing to boot":       {Spec: s, Name: "a", Dir: "."},
		"initrd without kernel": {Spec: s, Name: "a", Dir: ".", Vars: "v", Initrd: "i"},
		"no name":               {Spec: s, Dir: ".", Kernel: "k"},
		"no directory":          {Spec: s, Name: "a", Kernel: "k"},
		"empty specification":   {Name: "a", Dir: ".", Kernel: "k"},
	} {
		if _, err := Start(t.Context(), c); err == nil {
			t.Errorf("Start(%s) = nil error", name)
		}
	}
}
