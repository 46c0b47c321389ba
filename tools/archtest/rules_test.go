package archtest

import (
	"strings"
	"testing"
)

// ruleSample breaks one rule when bad is true, and does not otherwise.
type ruleSample struct {
	name, rule, path, text string
	bad                    bool
}

func importSamples() []ruleSample {
	return []ruleSample{
		{"wire imports ours", "imports", "provisioning/wire/a/a.go", `import "ringfence/provisioning/ca"`, true},
		{"wire imports wire", "imports", "provisioning/wire/a/a.go", `import "ringfence/provisioning/wire/b"`, false},
		{"wire imports a stranger", "imports", "provisioning/wire/a/a.go", `import "github.com/x/y"`, true},
		{"hal imports firmware", "imports", "hal/a/a.go", `import "ringfence/firmware/sip"`, true},
		{"hal imports x/sys", "imports", "hal/a/a.go", `import "golang.org/x/sys/unix"`, false},
		{"boards imports provisioning", "imports", "boards/a/a.go", `import "ringfence/provisioning/wire/lock"`, true},
		{"firmware imports wire", "imports", "firmware/sip/a.go", `import "ringfence/provisioning/wire/lock"`, false},
		{"firmware imports provisioning", "imports", "firmware/sip/a.go", `import "ringfence/provisioning/ca"`, true},
		{"firmware imports a driver", "imports", "firmware/sip/a.go", `import "ringfence/hal/audio/alsa"`, true},
		{"firmware imports hal/audio", "imports", "firmware/sip/a.go", `import "ringfence/hal/audio"`, false},
		{"firmware imports its command", "imports", "firmware/sip/a.go", `import "ringfence/firmware/cmd/phone"`, true},
		{"firmware imports a stranger", "imports", "firmware/sip/a.go", `import "github.com/x/y"`, true},
		{"firmware test imports a stranger", "imports", "firmware/sip/a_test.go", `import "github.com/x/y"`, false},
		{"firmware test imports a fake", "imports", "firmware/sip/a_test.go", `import "ringfence/hal/audio/audiotest"`, false},
		{"firmware test imports a driver", "imports", "firmware/sip/a_test.go", `import "ringfence/hal/tpm"`, false},
		{"media test imports a driver", "imports", "firmware/media/a_test.go", `import "ringfence/hal/audio/alsa"`, true},
		{"firmware imports a fake", "imports", "firmware/sip/a.go", `import "ringfence/hal/audio/audiotest"`, true},
		{"firmware test imports provisioning", "imports", "firmware/sip/a_test.go", `import "ringfence/provisioning/ca"`, true},
		{"media imports sip", "imports", "firmware/media/g711/a.go", `import "ringfence/firmware/sip"`, true},
		{"media imports wire", "imports", "firmware/media/a.go", `import "ringfence/provisioning/wire/report"`, true},
		{"media imports net/http", "imports", "firmware/media/a.go", `import "net/http"`, true},
		{"sip imports net/http", "imports", "firmware/sip/a.go", `import "net/http"`, false},
		{"provisioning imports firmware", "imports", "provisioning/est/a.go", `import "ringfence/firmware/sip"`, true},
		{"provisioning imports hal", "imports", "provisioning/est/a.go", `import "ringfence/hal/tpm"`, true},
		{"sigstore outside release", "imports", "provisioning/ca/a.go", `import "github.com/sigstore/sigstore/pkg/signature"`, true},
		{"sigstore in release", "imports", "provisioning/release/a.go", `import "github.com/sigstore/sigstore/pkg/signature"`, false},
		{"firmware imports tools", "imports", "firmware/sip/a_test.go", `import "ringfence/tools/qemutest"`, true},
		{"tools import everything", "imports", "tools/e2e/a.go", `import "ringfence/firmware/sip"`, false},
		{"new folder", "imports", "misc/a.go", ``, true},
	}
}

func formSamples() []ruleSample {
	long := "package a\n\nfunc f() {\n" + strings.Repeat("\tprintln()\n", maxFunctionLines) + "}\n"
	return []ruleSample{
		{"no comment", "docs", "hal/a/b.go", "", true},
		{"wrong comment", "docs", "hal/a/b.go", "//doc Something", true},
		{"comment", "docs", "hal/a/b.go", "//doc Package a is a sample.", false},
		{"long function", "size", "hal/a/b.go", long, true},
		{"long file", "size", "hal/a/b.go", strings.Repeat("//\n", maxFileLines+1), true},
		{"short", "size", "hal/a/b.go", "func f() {}\n", false},
		{"crooked", "format", "hal/a/b.go", "func  f() {}\n", true},
		{"straight", "format", "hal/a/b.go", "func f() {}\n", false},
		{"path of a machine", "words", "README.md", "see " + bannedWords()[0] + "x", true},
		{"path in Go", "words", "hal/a/b.go", "// see " + bannedWords()[1] + "x", true},
		{"bare TODO", "words", "hal/a/b.go", "// TO" + "DO: later", true},
		{"TODO with number", "words", "hal/a/b.go", "// TO" + "DO(#3): later", false},
		{"util at the top", "top", "util/a.go", "", true},
		{"dot-file at the top", "top", ".ci/run", "", false},
		{"lab elsewhere", "lab", "firmware/sip/a.go", "//tag lab", true},
		{"lab in the command", "lab", "firmware/cmd/phone/lab.go", "//tag lab", false},
		{"lab among others", "lab", "firmware/sip/a.go", "//tag linux && lab", true},
		{"another system", "lab", "hal/a/a.go", "//tag !linux", false},
		{"not lab", "lab", "firmware/sip/a.go", "//tag !lab", false},
		{"listener", "listen", "firmware/sip/a.go", `func f() { net.Listen("tcp", ":1") }`, true},
		{"listener by config", "listen", "firmware/sip/a.go", `func f() { (&net.ListenConfig{}).Listen(ctx, "tcp", ":1") }`, true},
		{"http server", "listen", "firmware/sip/a.go", `func f() { http.Serve(l, nil) }`, true},
		{"listener in intercom", "listen", "firmware/intercom/a.go", `func f() { net.Listen("unix", "x") }`, false},
		{"listener of the service", "listen", "provisioning/server/a.go", `func f() { net.Listen("tcp", ":1") }`, false},
		{"call of intercom", "listen", "firmware/cmd/phone/a.go", `func f() { intercom.Listen("x") }`, false},
		{"media socket", "listen", "firmware/media/a.go", `func f() { net.ListenUDP("udp", nil) }`, false},
		{"init", "state", "hal/a/b.go", "func init() {}", true},
		{"method init", "state", "hal/a/b.go", "func (t T) init() {}", false},
		{"zero variable", "state", "hal/a/b.go", "var x int", true},
		{"map to fill", "state", "hal/a/b.go", "var x = make(map[string]int)", true},
		{"pointer", "state", "hal/a/b.go", "var x = &T{}", true},
		{"lock", "state", "hal/a/b.go", "var x = sync.Mutex{}", true},
		{"hook", "state", "hal/a/b.go", "var x = func() {}", true},
		{"assigned", "state", "hal/a/b.go", "var x = 1\n\nfunc f() { x = 2 }", true},
		{"element assigned", "state", "hal/a/b.go", "var x = []int{1}\n\nfunc f() { x[0] = 2 }", true},
		{"counted", "state", "hal/a/b.go", "var x = 1\n\nfunc f() { x++ }", true},
		{"address taken", "state", "hal/a/b.go", "var x = 1\n\nfunc f() { g(&x) }", true},
		{"hidden by a local", "state", "hal/a/b.go", "var x = 1\n\nfunc f() { x := 1; x = 2; _ = x }", false},
		{"error", "state", "hal/a/b.go", `var ErrX = errors.New("x")`, false},
		{"pattern", "state", "hal/a/b.go", "var x = regexp.MustCompile(`x`)", false},
		{"table", "state", "hal/a/b.go", "var x = [...]int{1, 2}", false},
		{"embedded", "state", "hal/a/b.go", "//go:embed x\nvar x []byte", false},
		{"assertion", "state", "hal/a/b.go", "var _ I = (*T)(nil)", false},
	}
}

// TestRules gives each rule samples that break it and samples that do not.
func TestRules(t *testing.T) {
	for _, tt := range append(importSamples(), formSamples()...) {
		t.Run(tt.rule+"/"+tt.name, func(t *testing.T) {
			tree, err := New(map[string][]byte{tt.path: []byte(sample(tt.path, tt.text))})
			if err != nil {
				t.Fatal(err)
			}
			if found := rules()[tt.rule](tree); (len(found) > 0) != tt.bad {
				t.Errorf("rule %s on %q = %v, want a finding: %v", tt.rule, tt.text, found, tt.bad)
			}
		})
	}
}

// sample makes a Go file of a few declarations.
func sample(path, text string) string {
	if !strings.HasSuffix(path, ".go") || strings.HasPrefix(text, "package") {
		return text
	}
	if doc, found := strings.CutPrefix(text, "//doc "); found {
		return "// " + doc + "\npackage a\n"
	}
	if tag, found := strings.CutPrefix(text, "//tag "); found {
		return "//go:build " + tag + "\n\npackage a\n"
	}
	return "package a\n\n" + strings.TrimSuffix(text, "\n") + "\n"
}

func TestLoadRefusesBrokenFile(t *testing.T) {
	if _, err := New(map[string][]byte{"hal/a/a.go": []byte("package")}); err == nil {
		t.Error("New of a broken file = nil, want an error")
	}
}
