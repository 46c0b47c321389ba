package release

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// algCosignature is the signature type of Ed25519 cosignatures (C2SP
// tlog-cosignature, key ID).
const algCosignature = 0x04

// witnesses returns the verifiers of the trusted witnesses. No key may stand
// twice, under whatever name: the signed message does not hold the name, so
// one witness would count as two.
func (t *Trust) witnesses() ([]note.Verifier, error) {
	if t.Quorum < 1 || t.Quorum > len(t.Witnesses) {
		return nil, fmt.Errorf("%w: the trust wants %d of %d", ErrWitnessesMissing, t.Quorum, len(t.Witnesses))
	}
	var list []note.Verifier
	keys, names := map[string]bool{}, map[string]bool{}
	for _, vkey := range t.Witnesses {
		w, err := ParseWitness(vkey)
		if err != nil {
			return nil, err
		}
		if keys[string(w.key)] || names[w.name] {
			return nil, fmt.Errorf("witness %s stands twice in the release trust", w.name)
		}
		keys[string(w.key)], names[w.name] = true, true
		list = append(list, w)
	}
	return list, nil
}

// CheckWitnesses checks log key, witness keys and quorum, which is all that
// [VerifyProof] uses of a Trust.
func (t *Trust) CheckWitnesses() error {
	if _, err := note.NewVerifier(t.Log); err != nil {
		return fmt.Errorf("log key %.80q: %w", t.Log, err)
	}
	_, err := t.witnesses()
	return err
}

// Witness verifies the cosignatures of one witness (cosignature/v1).
type Witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

var _ note.Verifier = (*Witness)(nil)

// ParseWitness reads a verifier key of signature type 0x04:
// "<name>+<8 hexadecimal digits>+<base64 of 0x04 and the public key>".
func ParseWitness(vkey string) (*Witness, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 || parts[0] == "" || strings.ContainsAny(parts[0], " \n\t") {
		return nil, fmt.Errorf("witness key %.80q: want name+hash+key", vkey)
	}
	raw, err := decodeBase64(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != algCosignature {
		return nil, fmt.Errorf("witness key of %.80q: want an Ed25519 key of signature type 4", parts[0])
	}
	w := newWitness(parts[0], raw[1:])
	if fmt.Sprintf("%08x", w.hash) != parts[1] {
		return nil, fmt.Errorf("witness key of %q: key ID is %08x, not %.8q", w.name, w.hash, parts[1])
	}
	return w, nil
}

// newWitness computes the key ID: SHA-256(name, newline, 0x04, key)[:4].
func newWitness(name string, key ed25519.PublicKey) *Witness {
	sum := sha256.Sum256(append([]byte(name+"\n\x04"), key...))
	return &Witness{name: name, hash: binary.BigEndian.Uint32(sum[:]), key: key}
}

// WitnessKey returns the verifier key of a witness: what stands in
// Trust.Witnesses.
func WitnessKey(name string, key ed25519.PublicKey) (string, error) {
	if len(key) != ed25519.PublicKeySize {
		return "", errors.New("witness key is no Ed25519 key")
	}
	w := newWitness(name, key)
	vkey := fmt.Sprintf("%s+%08x+%s", name, w.hash, base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, key...)))
	_, err := ParseWitness(vkey)
	return vkey, err
}

// Name returns the witness's name.
func (w *Witness) Name() string { return w.name }

// KeyHash returns the key ID.
func (w *Witness) KeyHash() uint32 { return w.hash }

// Verify checks a timestamped signature over a checkpoint's text. The time is
// signed but not judged: a phone's clock may be anywhere.
func (w *Witness) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(sig)
	if seconds > math.MaxInt64 {
		return false
	}
	return ed25519.Verify(w.key, CosignatureMessage(seconds, text), sig[8:])
}

// CosignatureMessage is what a witness signs: text is the checkpoint without
// signatures, seconds the POSIX time (C2SP tlog-cosignature, Ed25519 signed
// message).
func CosignatureMessage(seconds uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(seconds, 10)+"\n"), text...)
}
