package network

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func hint(uris ...string) []byte {
	var raw []byte
	for _, u := range uris {
		raw = append(raw, byte(len(u)>>8), byte(len(u)))
		raw = append(raw, u...)
	}
	return raw
}

func TestParseHintsRFC8572Section8_3(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want []string
		bad  bool
	}{
		{"none", nil, nil, false},
		{"two", hint("https://a.test:8443", "https://b.test"), []string{"https://a.test:8443", "https://b.test"}, false},
		{"no clear text", hint("http://a.test", "tftp://x", "https://b.test"), []string{"https://b.test"}, false},
		{"no credentials", hint("https://u:p@a.test"), nil, false},
		{"cut in the length", []byte{0}, nil, true},
		{"cut in the URI", []byte{0, 9, 'h'}, nil, true},
		{"empty URI", []byte{0, 0}, nil, true},
	}
	for _, tt := range tests {
		got, err := parseHints(tt.in)
		if (err != nil) != tt.bad || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: parseHints = %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func ack(t *testing.T, spoil ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 77, 0, 20)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 77, 0, 1)), dhcpv4.WithDNS(net.IPv4(10, 77, 0, 1)), dhcpv4.WithLeaseTime(3600),
		dhcpv4.WithServerIP(net.IPv4(10, 77, 0, 1)), dhcpv4.WithOption(dhcpv4.OptGeneric(optionRedirect, hint("https://prov.test:8443")))}, spoil...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFromACK(t *testing.T) {
	l, err := fromACK(ack(t))
	if err != nil {
		t.Fatal(err)
	}
	if l.Address != netip.MustParsePrefix("10.77.0.20/24") || l.Router != netip.MustParseAddr("10.77.0.1") ||
		len(l.Hints) != 1 || l.Until != time.Hour || l.Renew != 30*time.Minute {
		t.Errorf("lease %+v", l)
	}
	for name, spoil := range map[string]dhcpv4.Modifier{
		"no address":       dhcpv4.WithYourIP(net.IPv4zero),
		"multicast":        dhcpv4.WithYourIP(net.IPv4(224, 0, 0, 1)),
		"everything local": dhcpv4.WithNetmask(net.CIDRMask(0, 32)),
		"seconds of lease": dhcpv4.WithLeaseTime(5),
		"bad hint":         dhcpv4.WithOption(dhcpv4.OptGeneric(optionRedirect, []byte{0, 200, 'h'})),
	} {
		if l, err := fromACK(ack(t, spoil)); err == nil {
			t.Errorf("%s: lease %+v accepted, want a refusal", name, l)
		}
	}
}

func policy() Policy {
	return Policy{Agent: 102, Call: 104, Media: 105, Resolvers: []netip.Addr{netip.MustParseAddr("10.77.0.1")},
		AgentPorts: []uint16{8443}, CallPorts: []uint16{5061}, RTPMin: 16384, RTPMax: 16415}
}

func TestPolicyValidate(t *testing.T) {
	for name, spoil := range map[string]func(*Policy){
		"root": func(p *Policy) { p.Media = 0 }, "system ports": func(p *Policy) { p.RTPMin = 80 }, "reversed": func(p *Policy) { p.RTPMax = 2000 },
	} {
		p := policy()
		spoil(&p)
		if p.Validate() == nil {
			t.Errorf("%s: Validate() = nil, want an error", name)
		}
	}
}

// inOwnNetwork runs the calling test again in a network namespace of its own.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv("RINGFENCE_OWN_NETWORK") != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "RINGFENCE_OWN_NETWORK=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(err.Error(), "operation not permitted") && os.Getenv("RINGFENCE_REQUIRE") == "" {
		t.Skip("no user namespaces here")
	}
	if err != nil {
		t.Errorf("in a network namespace: %v\n%s", err, out)
	}
	return false
}

func TestFilterIsWholeAndReplaceable(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	for range 2 { // loading again replaces, it does not add
		if err := Filter(policy()); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil && os.Getenv("RINGFENCE_REQUIRE") != "" {
		t.Fatalf("nft list ruleset: %v: %s", err, out)
	}
	if err != nil {
		t.Skipf("no nft to read the rules back: %v", err)
	}
	for _, want := range []string{"hook input priority filter; policy drop;", "hook output priority filter; policy drop;", "hook forward priority filter; policy drop;",
		"meta skuid 102", "meta skuid 104", "meta skuid 105", "ip daddr 10.77.0.1"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("rules lack %q:\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "ct state"); n != 2 {
		t.Errorf("%d rules on connection state, want 2:\n%s", n, out)
	}
	if err := RemoveFilter(); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command("nft", "list", "ruleset").CombinedOutput(); strings.Contains(string(out), TableName) {
		t.Errorf("the filter is still there:\n%s", out)
	}
}

func TestResolverFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	_ = os.WriteFile(path, []byte(resolverFile(policy().Resolvers)), 0o600)
	raw, _ := os.ReadFile(path)
	if want := "nameserver 10.77.0.1\noptions timeout:1 attempts:3\n"; string(raw) != want {
		t.Errorf("resolver file %q, want %q", raw, want)
	}
}
