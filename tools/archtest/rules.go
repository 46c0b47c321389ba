package archtest

// Limits of size. Aims are lower (350 lines, 15 lines); these are the walls.
const (
	maxFileLines     = 600
	maxFunctionLines = 80
)

// importRule says what the packages under one folder may import beside the
// standard library. A pattern ending in "/**" covers the folder and all below
// it; "**test" covers every package whose name ends in "test", and a pattern
// after "!" is taken out again.
type importRule struct {
	from    string   // first matching rule counts
	ours    []string // patterns of our packages, without the module path
	modules []string // prefixes of other people's packages; "*" allows all
	std     []string // standard packages that are forbidden here
}

// phoneModules is every module that a package of the phone may import directly.
func phoneModules() []string {
	return []string{
		"github.com/beevik/ntp", "github.com/elastic/go-seccomp-bpf", "github.com/emiago/sipgo",
		"github.com/google/go-tpm", "github.com/google/nftables", "github.com/insomniacslk/dhcp",
		"github.com/landlock-lsm/go-landlock", "github.com/mdlayher/genetlink", "github.com/mdlayher/netlink", "github.com/mdlayher/packet", "github.com/pion/dtls/v3",
		"github.com/pion/rtcp", "github.com/pion/rtp", "github.com/pion/sdp/v3", "github.com/pion/srtp/v3",
		"github.com/secure-systems-lab/go-securesystemslib/dsse", "github.com/smallstep/pkcs7", "github.com/vishvananda/netlink",
		"github.com/theupdateframework/go-tuf/v2/metadata", "golang.org/x/crypto", "golang.org/x/image", "golang.org/x/mod/sumdb", "golang.org/x/net", "golang.org/x/sys",
	}
}

// importRules is the table of who may import whom, most specific first.
func importRules() []importRule {
	wire := "provisioning/wire/**"
	return []importRule{
		{from: "provisioning/wire/**", ours: []string{wire}, modules: []string{
			"github.com/google/go-tpm/tpm2",
			"github.com/secure-systems-lab/go-securesystemslib/dsse", "golang.org/x/mod/sumdb"}},
		{from: "provisioning/release/**", ours: []string{"provisioning/**"}, modules: []string{"*"}},
		{from: "provisioning/**", ours: []string{"provisioning/**"}, modules: []string{"*", "!github.com/sigstore"}},
		{from: "hal/**", ours: []string{"hal/**"}, modules: []string{"golang.org/x/sys", "periph.io/x/conn", "periph.io/x/host",
			"go.bug.st/serial", "github.com/google/go-tpm", "github.com/holoplot/go-evdev"}},
		{from: "boards/**", ours: []string{"boards/**", "hal/**"}, modules: []string{"golang.org/x/sys", "periph.io/x/conn"}},
		{from: "firmware/media/**", ours: []string{"firmware/media/**", "hal", "hal/audio"}, modules: []string{"github.com/pion",
			"github.com/thesyncim/gopus", "golang.org/x/crypto", "golang.org/x/sys"}, std: []string{"net/http"}},
		{from: "firmware/cmd/**", ours: []string{"firmware/**", "boards/**", "hal/**", wire}, modules: phoneModules()},
		{from: "firmware/**", ours: []string{"firmware/**", "!firmware/cmd/**", "hal", "hal/audio", wire}, modules: phoneModules()},
		{from: "tools/sigstore-kms-pkcs11", ours: []string{"provisioning/release"}, modules: []string{"github.com/sigstore/sigstore", "github.com/miekg/pkcs11"}},
		{from: "tools/ringfence/**", ours: []string{"**"}, modules: []string{"*"}},
		{from: "tools/**", ours: []string{"**"}, modules: []string{"*", "!github.com/sigstore"}},
	}
}

// testHelpers are packages of ours that any test may import. Tests of the
// firmware may also use real drivers (testDrivers), on a software TPM for one.
const (
	testHelpers = "**test"
	testDrivers = "hal/**"
)

// allowedVars are package variables that break the rule with a reason.
func allowedVars() map[string]string {
	return map[string]string{}
}

// listenCalls open a door; only firmware/intercom may, to sockets in the file system.
func listenCalls() []string {
	return []string{"Listen", "ListenTCP", "ListenUnix", "ListenUnixgram", "ListenAndServe", "ListenAndServeTLS", "ListenTLS"}
}

// bannedWords name machines and hosts that have no place in the tree. They
// are put together here, so that this file does not hold them.
func bannedWords() []string {
	return []string{"/wo" + "rk/", "/tmp" + "/w/", "proxy.go" + "lang.org", "sum.go" + "lang.org", "deb.debi" + "an.org"}
}

// topLevel is everything that may stand at the top beside dot-files.
func topLevel() []string {
	return []string{"firmware", "provisioning", "boards", "hal", "tools", "scripts", "go.mod", "go.sum",
		"README.md", "LICENSE", "SECURITY.md", "CONTRIBUTING.md", "build"}
}
