package main

import (
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/translog/notekey"
	"ringfence/provisioning/translog/witness"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/release"
	"ringfence/tools/image"
)

// newLog makes a release log in dir with a witness that answers.
func newLog(t *testing.T, dir string, must func(...string) string) string {
	t.Helper()
	key := must("witness", "init", filepath.Join(dir, "w1"), "--name", "w1.test")
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) { handler.ServeHTTP(out, in) }))
	t.Cleanup(server.Close)
	log := filepath.Join(dir, "log")
	logKey := must("log", "init", log, "--origin", "log.test/releases", "--witness", key+","+server.URL)
	private, err := notekey.Read(filepath.Join(dir, "w1", witnessKey))
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Config{Key: private, Logs: []string{logKey}, State: filepath.Join(dir, "w1", witnessState), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	handler = w.Handler()
	return log
}

// newImage writes an image of a release and its reference values.
func newImage(t *testing.T, manufacturer, file, version string) {
	t.Helper()
	content := []byte("image " + version)
	ref := &release.Reference{Schema: 1, Release: version, Model: "virt64", Image: sha256.Sum256(content), PCRs: map[int]evidence.Digest{},
		Components: []release.Component{{Name: "kernel"}}, BootEntry: []string{`\EFI\phone\a.efi`}}
	for _, i := range release.ExactPCRs {
		ref.PCRs[i] = evidence.Digest{}
	}
	key, err := image.Manufacturer(manufacturer).ReleaseKey()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := release.SignReference(ref, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{file: content, file + ".reference.json": raw} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReleaseCommands lets two people on two machines release, with one file
// between them, a real log and a real witness.
func TestReleaseCommands(t *testing.T) {
	t.Setenv("RINGFENCE_KEY_PASSWORD", "secret")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(args ...string) string {
		t.Helper()
		out, err := ringfence(t, args...)
		if err != nil {
			t.Fatalf("ringfence %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if out, err := ringfence(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ringfence %s = %q, %v, want an error with %q", strings.Join(args, " "), out, err, want)
		}
	}
	for _, name := range []string{"olga", "omar", "otto", "dora", "erin"} {
		must("release", "key", "--out", path(name))
	}
	pub := func(name string) string { return name + "=" + path(name+".pub") }
	must("release", "init", path("repo"), "--owner", pub("olga"), "--owner", pub("omar"), "--owner", pub("otto"),
		"--model", "acme/virt64", "--signer", pub("dora"), "--signer", pub("erin"), "--out", path("setup.json"))
	must("release", "sign", path("setup.json"), "--key", path("olga.key"))
	refused("another person must sign", "release", "publish", path("repo"), path("setup.json"))
	must("release", "sign", path("setup.json"), "--key", path("omar.key"))
	must("release", "publish", path("repo"), path("setup.json"))

	log := newLog(t, dir, must)
	if err := os.WriteFile(path("trust.json"), []byte(must("release", "trust", path("repo"), "--log", log)), 0o600); err != nil {
		t.Fatal(err)
	}
	must("manufacturer", "init", path("maker"), "--name", "Acme")
	newImage(t, path("maker"), path("phone.efi"), "1.1.0")
	newImage(t, path("maker"), path("other.efi"), "1.2.0")
	must("release", "add", path("repo"), "--model", "acme/virt64", "--release", "1.1.0", "--sequence", "2", "--hardware", "a",
		"--image", path("phone.efi"), "--reference", path("phone.efi.reference.json"), "--manufacturer", path("maker"), "--out", path("release.json"))
	refused("nobody has signed", "release", "approve", path("release.json"), "--key", path("erin.key"), "--image", path("phone.efi"))
	must("release", "sign", path("release.json"), "--key", path("dora.key"))
	publish := []string{"release", "publish", path("repo"), path("release.json"), "--image", path("phone.efi"), "--log", log}
	refused("another person must sign", publish...)
	refused("signed already", "release", "sign", path("release.json"), "--key", path("dora.key"))
	refused("do not sign", "release", "approve", path("release.json"), "--key", path("erin.key"), "--image", path("other.efi"))
	must("release", "approve", path("release.json"), "--key", path("erin.key"), "--image", path("phone.efi"), "--root", path("repo/metadata/1.root.json"))
	refused("not the one that was signed", "release", "publish", path("repo"), path("release.json"), "--image", path("other.efi"), "--log", log)
	must(publish...)
	must("release", "verify", path("repo"), "acme/virt64/1.1.0/phone.efi", "--trust", path("trust.json"))
	refused("not in the repository", "release", "verify", path("repo"), "acme/virt64/1.2.0/phone.efi", "--trust", path("trust.json"))
	must("release", "export", path("repo"), "acme/virt64/1.1.0/phone.efi", "--out", path("export"))
	if found, err := filepath.Glob(path("export/*")); err != nil || len(found) != 6 {
		t.Errorf("export wrote %v, want the image, two bundles, two keys, trusted_root.json", found)
	}
	must("release", "refresh", path("repo"))
	must("release", "verify", path("repo"), "acme/virt64/1.1.0/phone.efi", "--trust", path("trust.json"))
}
