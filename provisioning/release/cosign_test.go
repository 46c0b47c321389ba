package release

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tool finds a program, or skips, or fails where everything must be there.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("RINGFENCE_REQUIRE") != "" && name != "cosign" { // Debian has no cosign
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("SKIPPED, NOTHING WAS TESTED: %s is not installed", name)
	return ""
}

// exported is a released image with what belongs to it, in a folder.
func exported(t *testing.T) (dir, image1, other string, ids []string) {
	w := newWorld(t)
	w.released("1.1.0", 2)
	dir = t.TempDir()
	w.must(w.repo.Export(target("1.1.0"), dir))
	image1, other = filepath.Join(dir, "phone.efi"), filepath.Join(dir, "other.efi")
	w.must(os.WriteFile(other, []byte("other"), 0o644))
	return dir, image1, other, []string{w.signers["dora"].ID(), w.signers["erin"].ID()}
}

// TestCosignVerifies lets an unmodified cosign judge the bundles.
func TestCosignVerifies(t *testing.T) {
	cosign := tool(t, "cosign")
	dir, good, bad, ids := exported(t)
	verify := func(key, bundle, file string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), cosign, "verify-blob", "--key", filepath.Join(dir, key+".pub"),
			"--bundle", filepath.Join(dir, "phone.efi."+bundle+".sigstore.json"),
			"--trusted-root", filepath.Join(dir, "trusted_root.json"), "--private-infrastructure", file)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		return cmd.CombinedOutput()
	}
	for _, id := range ids {
		if out, err := verify(id, id, good); err != nil {
			t.Errorf("cosign refuses the bundle of %.8s: %v\n%s", id, err, out)
		}
	}
	if out, err := verify(ids[0], ids[0], bad); err == nil {
		t.Errorf("cosign accepts another image: %s", out)
	}
	if out, err := verify(ids[0], ids[1], good); err == nil {
		t.Errorf("cosign accepts another signer's bundle: %s", out)
	}
}

// TestCosignReadsKey lets cosign derive the public key from our encrypted file.
func TestCosignReadsKey(t *testing.T) {
	cosign := tool(t, "cosign")
	private, public, err := NewKey([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "signer.key")
	if err := os.WriteFile(name, private, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), cosign, "public-key", "--key", name)
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=secret", "HOME="+t.TempDir())
	if out, err := cmd.Output(); err != nil || string(out) != string(public) {
		t.Errorf("cosign public-key = %s, %v, want %s", out, err, public)
	}
}

func TestOpenSSLVerifies(t *testing.T) {
	openssl := tool(t, "openssl")
	dir, good, bad, ids := exported(t)
	for _, id := range ids {
		raw, err := os.ReadFile(filepath.Join(dir, "phone.efi."+id+".sigstore.json"))
		if err != nil {
			t.Fatal(err)
		}
		var b struct {
			MessageSignature struct{ Signature string }
		}
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Fatal(err)
		}
		sig, err := base64.StdEncoding.DecodeString(b.MessageSignature.Signature)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "sig"), sig, 0o644); err != nil {
			t.Fatal(err)
		}
		run := func(file string) ([]byte, error) {
			return exec.CommandContext(t.Context(), openssl, "dgst", "-sha256", "-verify", filepath.Join(dir, id+".pub"),
				"-signature", filepath.Join(dir, "sig"), file).CombinedOutput()
		}
		if out, err := run(good); err != nil {
			t.Errorf("openssl refuses the signature of %.8s: %v\n%s", id, err, out)
		}
		if out, err := run(bad); err == nil {
			t.Errorf("openssl accepts another image: %s", out)
		}
	}
}
