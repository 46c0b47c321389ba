// Package notekey keeps the Ed25519 keys of logs and witnesses in files, in
// the form of golang.org/x/mod/sumdb/note. It is not for the keys that sign
// releases. Specification: C2SP signed-note, tlog-cosignature.
package notekey

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"ringfence/provisioning/wire/release"
)

// Key is a named private key. The zero value is no key.
type Key struct {
	name string
	text string // "PRIVATE+KEY+<name>+<hash>+<base64 of 0x01 and the seed>"
	seed []byte
}

// String hides the key from logs.
func (Key) String() string { return "[secret]" }

// Generate makes a new key. The name is the log's origin or the witness's
// name, a URL without scheme such as "log.example/releases".
func Generate(name string) (Key, error) {
	text, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return Key{}, fmt.Errorf("generate key of %q: %w", name, err)
	}
	return Parse(text)
}

// Parse reads the text form.
func Parse(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if _, err := note.NewSigner(text); err != nil {
		return Key{}, errors.New("text is no note signing key (PRIVATE+KEY+...)") // the cause would print the key
	}
	parts := strings.SplitN(text, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(parts) != 5 || len(raw) != 1+ed25519.SeedSize {
		return Key{}, errors.New("note signing key is no Ed25519 key")
	}
	return Key{name: parts[2], text: text, seed: raw[1:]}, nil
}

// Read reads a key file, which nobody else may read.
func Read(path string) (Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Key{}, fmt.Errorf("key file %s has mode %o: chmod 600 it", path, info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	k, err := Parse(string(raw))
	if err != nil {
		return Key{}, fmt.Errorf("read %s: %w", path, err)
	}
	return k, nil
}

// Write writes a new key file with mode 0600. It never replaces one.
func (k Key) Write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.WriteString(k.text + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

// Name returns the name in the key.
func (k Key) Name() string { return k.name }

// Private returns the Ed25519 key.
func (k Key) Private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.seed) }

// Signer signs notes (signature type 1).
func (k Key) Signer() (note.Signer, error) { return note.NewSigner(k.text) }

// LogKey returns the verifier key of signature type 1, that of logs.
func (k Key) LogKey() (string, error) {
	return note.NewEd25519VerifierKey(k.name, k.Private().Public().(ed25519.PublicKey))
}

// WitnessKey returns the verifier key of signature type 4, that of witnesses.
func (k Key) WitnessKey() (string, error) {
	return release.WitnessKey(k.name, k.Private().Public().(ed25519.PublicKey))
}
