package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ringfence/hal/tpm/tpmtest"
)

func TestKeysSurviveRestart(t *testing.T) {
	vtpm, dir := tpmtest.Start(t), t.TempDir()
	if _, err := Load(vtpm.Device, dir); !errors.Is(err, ErrNone) {
		t.Fatalf("Load(empty) = %v, want ErrNone", err)
	}
	first, err := Create(vtpm.Device, dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(vtpm.Device, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range uses() {
		if string(first.Public(use)) != string(again.Public(use)) || first.Public(use) == nil {
			t.Errorf("%s key changed over a restart", use)
		}
	}
	signs(t, again)
	if _, err := Load(tpmtest.Start(t).Device, dir); err == nil {
		t.Error("Load of another TPM's keys = nil error")
	}
	if err := os.WriteFile(filepath.Join(dir, keysFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(vtpm.Device, dir); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Load of a damaged file = %v, want an error that is not ErrNone", err)
	}
}

func signs(t *testing.T, keys *Keys) {
	t.Helper()
	for _, use := range []string{useIDevID, useManagement, useSIP} {
		s, err := keys.Signer(use)
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256([]byte(use))
		sig, err := s.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
			t.Errorf("%s: signature does not verify (%v)", use, err)
		}
		wide := sha512.Sum512(nil)
		if _, err := s.Sign(nil, wide[:], crypto.SHA512); err == nil {
			t.Errorf("%s: Sign(SHA-512) = nil error", use)
		}
	}
	for _, use := range []string{useAK, useSeal, "", "other"} {
		if _, err := keys.Signer(use); err == nil {
			t.Errorf("Signer(%q) = nil error", use)
		}
	}
}

func TestSealKeyOpensHPKE(t *testing.T) {
	keys, err := Create(tpmtest.Start(t).Device, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.SealKey()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // shared points with leading zeros among them, in the long run
		sealed, err := hpke.Seal(key.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("info"), []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("info"), sealed); err != nil || string(got) != "text" {
			t.Fatalf("Open = %q, %v", got, err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	keys, err := Create(tpmtest.Start(b).Device, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s, err := keys.Signer(useSIP)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	for b.Loop() {
		if _, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}
