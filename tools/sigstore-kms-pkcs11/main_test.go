//go:build cgo

package main

import (
	"crypto"
	"crypto/ecdsa"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms"

	"ringfence/provisioning/release"
	"ringfence/tools/tooltest"
)

// softToken makes a token of SoftHSM 2 and puts the built plugin in the path.
func softToken(t *testing.T) {
	t.Helper()
	const util = "softhsm2-util"
	tooltest.Need(t, util)
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	t.Setenv(envPIN, "1234")
	for _, lib := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if _, err := os.Stat(lib); err == nil {
			t.Setenv(envModule, lib)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, args := range [][]string{
		{util, "--init-token", "--free", "--label", "acme", "--so-pin", "4321", "--pin", "1234"},
		{"go", "build", "-o", filepath.Join(dir, "sigstore-kms-pkcs11"), "."},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestTokenSigns makes a key in a token and signs a proposal with it, through
// the plugin protocol.
func TestTokenSigns(t *testing.T) {
	softToken(t)
	ctx := t.Context()
	if _, err := release.OpenSigner(ctx, "pkcs11://acme/dora", nil); err == nil {
		t.Error("a key that does not exist was opened")
	}
	sv, err := kms.Get(ctx, "pkcs11://acme/dora", crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	public, err := sv.CreateKey(ctx, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	s, err := release.OpenSigner(ctx, "pkcs11://acme/dora", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Public().Equal(public) {
		t.Error("the opened key is not the one that was made")
	}
	person := func(name string) release.Person {
		_, pub, err := release.NewKey([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := release.ParsePublicPEM(pub)
		if err != nil {
			t.Fatal(err)
		}
		return release.Person{Name: name, Key: key}
	}
	p, err := release.NewSetup(release.Setup{
		Owners:   []release.Person{{Name: "olga", Key: public.(*ecdsa.PublicKey)}, person("omar"), person("otto")},
		Snapshot: person("snapshot"), Timestamp: person("timestamp"), Now: time.Now(),
		Delegations: []release.Delegation{{Manufacturer: "acme", Model: "virt64", Threshold: 2, Signers: []release.Person{person("dora"), person("erin")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Sign(s, nil); err != nil {
		t.Fatal(err)
	}
	if sum, err := p.Show(); err != nil || sum.Documents[0].Has != 1 {
		t.Errorf("Show = %+v, %v, want one signature of the token", sum, err)
	}
	t.Setenv(envPIN, "9999")
	if _, err := release.OpenSigner(ctx, "pkcs11://acme/dora", nil); err == nil {
		t.Error("the key was opened with a wrong PIN")
	}
}
