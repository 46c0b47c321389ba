package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// repository makes a small one: a target and four roles with one key.
func repository(t *testing.T) (address string, root []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	key, err := metadata.KeyFromPublicKey(private.Public())
	must(t, err)
	id, err := key.ID()
	must(t, err)
	sign := func(body any) []metadata.Signature {
		payload, err := cjson.EncodeCanonical(body)
		must(t, err)
		digest := sha256.Sum256(payload)
		sig, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
		must(t, err)
		return []metadata.Signature{{KeyID: id, Signature: sig}}
	}
	end := time.Now().Add(10 * 24 * time.Hour).UTC().Truncate(time.Second)
	r, ts, sn, tg := metadata.Root(end), metadata.Timestamp(end), metadata.Snapshot(end), metadata.Targets(end)
	r.Signed.Keys[id] = key
	for _, role := range metadata.TOP_LEVEL_ROLE_NAMES {
		r.Signed.Roles[role].KeyIDs = []string{id}
	}
	digest := sha256.Sum256([]byte("content"))
	tg.Signed.Targets["dir/file"] = &metadata.TargetFiles{Length: 7, Hashes: metadata.Hashes{"sha256": digest[:]}}
	r.Signatures, ts.Signatures, sn.Signatures, tg.Signatures = sign(r.Signed), sign(ts.Signed), sign(sn.Signed), sign(tg.Signed)
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "metadata"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "targets", "dir"), 0o755))
	must(t, ts.ToFile(filepath.Join(dir, "metadata", "timestamp.json"), false))
	must(t, sn.ToFile(filepath.Join(dir, "metadata", "1.snapshot.json"), false))
	must(t, tg.ToFile(filepath.Join(dir, "metadata", "1.targets.json"), false))
	must(t, os.WriteFile(filepath.Join(dir, "targets", "dir", hex.EncodeToString(digest[:])+".file"), []byte("content"), 0o644))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	root, err = r.ToBytes(false)
	must(t, err)
	return server.URL, root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestProtocol runs the three commands as CLIENT-CLI.md gives them.
func TestProtocol(t *testing.T) {
	address, root := repository(t)
	dir := t.TempDir()
	trusted, md, out := filepath.Join(dir, "initial_root.json"), filepath.Join(dir, "metadata"), filepath.Join(dir, "targets")
	must(t, os.WriteFile(trusted, root, 0o644))
	run := func(args ...string) error {
		cmd := newRoot()
		cmd.SetArgs(args)
		return cmd.ExecuteContext(t.Context())
	}
	download := func(name string) error {
		return run("--metadata-url", address+"/metadata", "--metadata-dir", md, "--target-name", name,
			"--target-dir", out, "--target-base-url", address+"/targets", "download")
	}
	if err := run("--metadata-dir", md, "--metadata-url", address+"/metadata", "refresh"); err == nil {
		t.Error("refresh before init succeeded")
	}
	must(t, run("--metadata-dir", md, "init", trusted))
	must(t, run("--metadata-dir", md, "--metadata-url", address+"/metadata", "refresh"))
	for _, name := range []string{"root", "timestamp", "snapshot", "targets"} {
		if _, err := os.Stat(filepath.Join(md, name+".json")); err != nil {
			t.Errorf("after refresh: %v", err)
		}
	}
	must(t, download("dir/file"))
	must(t, download("dir/file")) // from the cache
	files, err := os.ReadDir(out)
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("targets = %v, want one file", files)
	}
	if got, err := os.ReadFile(filepath.Join(out, files[0].Name())); err != nil || string(got) != "content" {
		t.Errorf("downloaded %q, %v", got, err)
	}
	if err := download("no/such"); err == nil {
		t.Error("download of an unknown target succeeded")
	}
	t.Setenv("FAKETIME", "+20d")
	if err := run("--metadata-dir", md, "--metadata-url", address+"/metadata", "refresh"); err == nil {
		t.Error("refresh after expiry succeeded")
	}
}

func TestFakeTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	for in, want := range map[string]time.Duration{"": 0, "+7d": 7 * 24 * time.Hour, "-90": -90 * time.Second, "+1.5h": 90 * time.Minute,
		"@2026-01-02 03:04:15": 10 * time.Second} {
		if got, err := fakeTime(in, now); err != nil || got != want {
			t.Errorf("fakeTime(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"@yesterday", "soon", "d"} {
		if got, err := fakeTime(in, now); err == nil {
			t.Errorf("fakeTime(%q) = %v, want an error", in, fmt.Sprint(got))
		}
	}
}
