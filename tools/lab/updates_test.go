package lab

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ringfence/firmware/update"
	"ringfence/provisioning/release"
	"ringfence/provisioning/wire/evidence"
	wire "ringfence/provisioning/wire/release"
)

// office is a release office with one published image and a server for it.
func office(t *testing.T) (u *Updates, target string, content []byte, base *url.URL) {
	t.Helper()
	u, err := NewUpdates(t.Context(), t.TempDir(), "virt64")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := release.PublicPEM(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	content = bytes.Repeat([]byte("an image "), 5000)
	ref := &wire.Reference{Schema: 1, Release: "1.0.1", Model: "virt64", Image: sha256.Sum256(content), PCRs: map[int]evidence.Digest{},
		Components: []wire.Component{{Name: "kernel"}}, BootEntry: []string{`\EFI\phone\a.efi`}}
	for _, i := range wire.ExactPCRs {
		ref.PCRs[i] = evidence.Digest{}
	}
	reference, err := wire.SignReference(ref, key)
	if err != nil {
		t.Fatal(err)
	}
	m, img := &Manufacturer{Dir: t.TempDir()}, Image{t.TempDir()}
	for path, data := range map[string][]byte{filepath.Join(m.Dir, "release.pub"): pem, img.UKI(): content, img.Reference(): reference} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if target, err = u.Publish(t.Context(), m, img, "virt64", "1.0.1", 7); err != nil {
		t.Fatal(err)
	}
	handler, end, err := release.Handler(u.Dir)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		if err := errors.Join(end(), u.Close()); err != nil {
			t.Error(err)
		}
	})
	base, err = url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u, target, content, base
}

// TestPhoneReadsRepository is the phone's way to an image, with clocks that
// were never set, that are right, and that are far ahead.
func TestPhoneReadsRepository(t *testing.T) {
	u, path, content, base := office(t)
	raw, err := os.ReadFile(u.Trust)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := wire.ParseTrust(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		clock func() (time.Time, bool)
		cause string // of the refusal, "" for none
	}{
		{"never set, shows 1970", func() (time.Time, bool) { return time.Unix(100, 0), false }, ""},
		{"shows 2099", func() (time.Time, bool) { return time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), true }, "expired"},
		{"right", func() (time.Time, bool) { return time.Now(), true }, ""},
		{"frozen mirror", func() (time.Time, bool) { return time.Now().Add(48 * time.Hour), true }, "expired"},
	} {
		r, err := update.NewRepository(update.RepositoryConfig{Trust: trust, Dir: t.TempDir(), Clock: tt.clock,
			Connect: func() (update.Connection, error) { return update.Connection{HTTP: http.DefaultClient, Base: base}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		var no *update.Refusal
		err = fetch(t.Context(), r, update.LogVerifier{Trust: trust}, path, content)
		switch {
		case tt.cause == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.cause != "" && (!errors.As(err, &no) || no.Cause != tt.cause):
			t.Errorf("%s: %v, want a refusal with cause %s", tt.name, err, tt.cause)
		}
	}
}

func fetch(ctx context.Context, r *update.Repository, v update.LogVerifier, path string, want []byte) error {
	target, err := r.Target(ctx, path)
	if err != nil {
		return err
	}
	proof, err := r.Proof(ctx, path)
	if err != nil {
		return err
	}
	entry := wire.Entry{Target: path, SHA256: hex.EncodeToString(target.SHA256[:]), Length: target.Length, Release: "1.0.1", Sequence: 7}
	if err := v.VerifyProof(proof, entry); err != nil {
		return err
	}
	entry.Sequence++
	if v.VerifyProof(proof, entry) == nil {
		return errors.New("the proof is good for another sequence as well")
	}
	var got bytes.Buffer
	if err := r.Download(ctx, target, &got, bytes.NewReader(want[:100])); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), want[100:]) {
		return errors.New("the download differs")
	}
	return nil
}

func TestRepositoryRefuses(t *testing.T) {
	u, path, _, base := office(t)
	other, err := NewUpdates(t.Context(), t.TempDir(), "virt64")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() }) // the other office has nothing to lose
	for _, tt := range []struct{ name, trust, path, cause string }{
		{"root of another manufacturer", other.Trust, path, "metadata"},
		{"no such target", u.Trust, "lab/virt64/9.9.9/phone.efi", "metadata"},
	} {
		raw, err := os.ReadFile(tt.trust)
		if err != nil {
			t.Fatal(err)
		}
		trust, err := wire.ParseTrust(raw)
		if err != nil {
			t.Fatal(err)
		}
		r, err := update.NewRepository(update.RepositoryConfig{Trust: trust, Dir: t.TempDir(),
			Clock:   func() (time.Time, bool) { return time.Now(), true },
			Connect: func() (update.Connection, error) { return update.Connection{HTTP: http.DefaultClient, Base: base}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		var no *update.Refusal
		if _, err := r.Target(t.Context(), tt.path); !errors.As(err, &no) || no.Cause != tt.cause {
			t.Errorf("%s: Target = %v, want a refusal with cause %s", tt.name, err, tt.cause)
		}
	}
}
