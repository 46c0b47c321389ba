package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A wrong flag leaves nothing behind: what init has made it never makes again.
func TestInitRefusesBeforeItWrites(t *testing.T) {
	complete := slices.Clip([]string{"--name", "prov.example.org", "--sip-name", "sip.example.org", "--domain", "example.org"})
	tests := []struct {
		name string
		args []string
		want string // "": a site is made
	}{
		{"no names", nil, "--name HOST --sip-name HOST --domain DOMAIN"},
		{"call server without its administration", append(complete, "--call-server-listen", "192.0.2.5:5061"), "--call-server-admin"},
		{"call server at no address", append(complete, "--call-server-listen", ":5061", "--call-server-admin", "127.0.0.1:18080"), "--call-server-listen"},
		{"complete", append(complete, "--call-server-listen", "192.0.2.5:5061", "--call-server-admin", "127.0.0.1:18080"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "site")
			var said bytes.Buffer
			err := runInit(t.Context(), append([]string{dir}, tt.args...), &said)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("runInit(%q) = %v, want %q in it", tt.args, err, tt.want)
				}
				if _, err := os.Stat(dir); !os.IsNotExist(err) {
					t.Errorf("a refused init left %s behind (%v)", dir, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"provisiond --config", "ringfence --admin", "kamailio -f " + dir + "/kamailio/kamailio.cfg"} {
				if !strings.Contains(said.String(), want) {
					t.Errorf("init says %q, want %q in it", said.String(), want)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "kamailio", "kamailio.cfg")); err != nil {
				t.Error(err)
			}
		})
	}
}
