package registrar

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func site() Site {
	return Site{Listen: netip.MustParseAddrPort("10.77.0.1:5061"), Admin: netip.MustParseAddrPort("127.0.0.1:18080"), Domain: "ringfence.test",
		Certificate: "/etc/x/server.pem", Key: "/etc/x/server.key", SIPCA: "/etc/x/sip-ca.pem", ModulePath: "/usr/lib/kamailio/modules"}
}

func TestWriteRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*Site)
	}{
		{"admin port open to the network", func(s *Site) { s.Admin = netip.MustParseAddrPort("10.77.0.1:18080") }},
		{"listen everywhere", func(s *Site) { s.Listen = netip.MustParseAddrPort("0.0.0.0:5061") }},
		{"script in the domain", func(s *Site) { s.Domain = "x\"\nlisten=udp:0.0.0.0" }},
		{"no SIP CA", func(s *Site) { s.SIPCA = "" }},
		{"script in a path", func(s *Site) { s.Key = "/x\nmethod=TLSv1" }},
	} {
		s := site()
		tc.edit(&s)
		if err := Write(t.TempDir(), s); err == nil {
			t.Errorf("%s: Write passed", tc.name)
		}
	}
}

func TestWriteHasOnlyTLSForPhones(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, site()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "kamailio.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "listen=") && line != "listen=tls:10.77.0.1:5061\n" && line != "listen=tcp:127.0.0.1:18080\n" {
			t.Errorf("unexpected %q", line)
		}
	}
	if strings.Contains(string(raw), "{{") {
		t.Error("template left open")
	}
}

func TestConnectorRefusesAndRemembers(t *testing.T) {
	// Port 1 answers nobody: every change stays pending.
	c, err := New(Config{Admin: netip.MustParseAddrPort("127.0.0.1:1"), Domain: "ringfence.test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := c.Allow(ctx, "PHONE-A", "100"); !errors.Is(err, ErrPending) {
		t.Errorf("Allow without a server = %v, want %v", err, ErrPending)
	}
	if err := c.Allow(ctx, "PHONE-B", "100"); !errors.Is(err, ErrTaken) {
		t.Errorf("Allow of a line in use = %v, want %v", err, ErrTaken)
	}
	if err := c.Revoke(ctx, "PHONE-A"); !errors.Is(err, ErrPending) {
		t.Errorf("Revoke without a server = %v, want %v", err, ErrPending)
	}
	if c.dirty["PHONE-A"] != "sip:100@ringfence.test" {
		t.Errorf("pending removal %q is forgotten", c.dirty["PHONE-A"])
	}
	for _, bad := range []struct{ id, user string }{{"phone", "100"}, {"PHONE-A", "1@evil"}, {"PHONE-A", ""}} {
		if err := c.Allow(ctx, "PHONE-C", bad.user); bad.id == "PHONE-A" && (err == nil || errors.Is(err, ErrPending)) {
			t.Errorf("Allow of user %q = %v, want a refusal", bad.user, err)
		}
	}
	if _, err := New(Config{Admin: netip.MustParseAddrPort("10.77.0.1:18080"), Domain: "x.test", Log: slog.Default()}); err == nil {
		t.Error("admin address off loopback passed")
	}
}
