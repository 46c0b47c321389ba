package lockcfg

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"ringfence/firmware/identity"
	"ringfence/hal/tpm/tpmtest"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/lock"
)

// bench is one phone with a real TPM and its owner.
type bench struct {
	cfg       Config
	recipient hpke.PublicKey
	owner     *x509.Certificate
	ownerKey  *ecdsa.PrivateKey
	signer    *x509.Certificate
	signerKey *ecdsa.PrivateKey
	applied   []uint64
	applyErr  error
}

const phoneID device.ID = "RF-000001"

func certificate(t *testing.T, name string, parent *x509.Certificate, by crypto.Signer) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(),
		NotAfter: time.Now().Add(time.Hour), IsCA: parent == nil, BasicConstraintsValid: true}
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

func newBench(t *testing.T) *bench {
	vtpm, dir := tpmtest.Start(t), t.TempDir()
	keys, err := identity.Create(vtpm.Device, dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.SealKey()
	if err != nil {
		t.Fatal(err)
	}
	floor := vtpm.Floor()
	if err := floor.Define(); err != nil {
		t.Fatal(err)
	}
	b := &bench{recipient: key.PublicKey()}
	b.owner, b.ownerKey = certificate(t, "owner", nil, nil)
	b.signer, b.signerKey = certificate(t, lock.SignerName, b.owner, b.ownerKey)
	b.cfg = Config{Path: Path(dir), Key: key, Device: phoneID, Owner: b.owner, Floor: floor, Apply: func(c *lock.Config) error {
		if b.applyErr != nil {
			return b.applyErr
		}
		b.applied = append(b.applied, c.Version)
		return nil
	}}
	return b
}

func (b *bench) keeper(t *testing.T) *Keeper {
	t.Helper()
	k, err := New(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func config(version uint64) *lock.Config {
	return &lock.Config{Schema: lock.Schema, Device: phoneID, Version: version, Issued: time.Unix(1e9, 0).UTC(),
		CallServer: lock.CallServer{Address: "sip.ringfence.test:5061", ServerName: "sip.ringfence.test", Domain: "ringfence.test", CAs: [][]byte{{1}}},
		Lines:      []lock.Line{{User: "100", Display: "Front desk"}},
		Media:      lock.Media{Codecs: []lock.Codec{lock.G722}, Suites: []lock.Suite{lock.AEADAES256GCM}, PortMin: 20000, PortMax: 20100},
		Policy:     lock.Policy{Radios: lock.RadiosOff, EmergencyNumbers: []string{"112"}},
		Management: lock.Management{ReportSeconds: 30}}
}

func (b *bench) seal(t *testing.T, c *lock.Config) []byte {
	t.Helper()
	sealed, err := lock.Seal(c, b.signerKey, b.signer, b.recipient)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// sealRaw seals a payload that lock.Seal would refuse to make.
func (b *bench) sealRaw(t *testing.T, payload []byte, signer *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	return b.sealOther(t, payload, payload, signer, key)
}

// sealOther signs one payload and sends another under that signature.
func (b *bench) sealOther(t *testing.T, signed, payload []byte, signer *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	digest := crypto.SHA256.New()
	digest.Write(dsse.PAE(lock.PayloadType, signed))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := json.Marshal(map[string]any{"certificate": signer.Raw, "envelope": map[string]any{
		"payloadType": lock.PayloadType, "payload": payload, "signatures": []any{map[string]any{"sig": sig}}}})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hpke.Seal(b.recipient, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("ringfence config 1 "+string(phoneID)), plain)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func payload(t *testing.T, change func(*lock.Config)) []byte {
	t.Helper()
	c := config(9)
	change(c)
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestReceiveRefuses: each input breaks one check and nothing else; the former
// configuration stays in force and in the file.
func TestReceiveRefuses(t *testing.T) {
	b := newBench(t)
	k := b.keeper(t)
	first := b.seal(t, config(5))
	if _, err := k.Receive(first); err != nil {
		t.Fatal(err)
	}
	stranger, strangerKey := certificate(t, "stranger", nil, nil)
	forged, forgedKey := certificate(t, lock.SignerName, stranger, strangerKey)
	otherKey, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := hpke.NewDHKEMPublicKey(otherKey.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	flipped := b.seal(t, config(9))
	flipped[len(flipped)-1] ^= 1
	good := payload(t, func(*lock.Config) {})
	for _, test := range []struct {
		name   string
		sealed []byte
		want   error
	}{
		{"seal: one byte", flipped, lock.ErrSeal},
		{"seal: other phone's key", func() []byte {
			s := *b
			s.recipient = other
			return s.seal(t, config(9))
		}(), lock.ErrSeal},
		{"signature: foreign signer", b.sealRaw(t, good, forged, forgedKey), lock.ErrSignature},
		{"signature: not by the key", b.sealRaw(t, good, b.signer, forgedKey), lock.ErrSignature},
		{"signature: one byte", b.sealOther(t, good, payload(t, func(c *lock.Config) { c.Lines[0].User = "101" }), b.signer, b.signerKey), lock.ErrSignature},
		{"version: the same", b.seal(t, config(5)), lock.ErrVersion},
		{"version: older", b.seal(t, config(4)), lock.ErrVersion},
		{"recipient", b.sealRaw(t, payload(t, func(c *lock.Config) { c.Device = "RF-000002" }), b.signer, b.signerKey), lock.ErrRecipient},
		{"schema: number", b.sealRaw(t, payload(t, func(c *lock.Config) { c.Schema = 2 }), b.signer, b.signerKey), lock.ErrSchema},
		{"schema: unknown field", b.sealRaw(t, append([]byte(`{"x":1,`), good[1:]...), b.signer, b.signerKey), lock.ErrSchema},
	} {
		if _, err := k.Receive(test.sealed); !errors.Is(err, test.want) {
			t.Errorf("%s: Receive = %v, want %v", test.name, err, test.want)
		}
		if k.Version() != 5 || len(b.applied) != 1 {
			t.Errorf("%s: version %d in force, applied %v, want 5 applied once", test.name, k.Version(), b.applied)
		}
		if stored, err := os.ReadFile(b.cfg.Path); err != nil || string(stored) != string(first) {
			t.Errorf("%s: the stored file changed", test.name)
		}
	}
	if _, err := k.Receive(b.sealRaw(t, good, b.signer, b.signerKey)); err != nil { // the control
		t.Errorf("Receive(unbroken) = %v", err)
	}
}

func TestReload(t *testing.T) {
	b := newBench(t)
	if c, err := b.keeper(t).Reload(); c != nil || err != nil {
		t.Fatalf("Reload of nothing = %v, %v", c, err)
	}
	old := b.seal(t, config(3))
	for _, sealed := range [][]byte{old, b.seal(t, config(4))} {
		if _, err := b.keeper(t).Receive(sealed); err != nil {
			t.Fatal(err)
		}
	}
	b.applied = nil
	k := b.keeper(t)
	if c, err := k.Reload(); err != nil || c.Version != 4 || len(b.applied) != 0 {
		t.Fatalf("Reload = %v, %v, applied %v, want version 4 not applied yet", c, err, b.applied)
	}
	for _, want := range []bool{true, false} {
		if done, err := k.Activate(); done != want || err != nil {
			t.Fatalf("Activate = %v, %v, want %v", done, err, want)
		}
	}
	for name, bad := range map[string][]byte{"older file put back": old, "garbage": []byte("x"), "empty": nil} {
		if err := os.WriteFile(b.cfg.Path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		k := b.keeper(t)
		if _, err := k.Reload(); !errors.Is(err, ErrStored) || k.Current() != nil {
			t.Errorf("%s: Reload = %v, want ErrStored and no configuration", name, err)
		}
		if _, err := k.Receive(b.seal(t, config(4))); err != nil { // the server sends the lost one again
			t.Errorf("%s: Receive(version at the floor) = %v", name, err)
		}
	}
}

func TestApplyFails(t *testing.T) {
	b := newBench(t)
	k := b.keeper(t)
	if _, err := k.Receive(b.seal(t, config(1))); err != nil {
		t.Fatal(err)
	}
	b.applyErr = errors.New("call server does not answer")
	_, err := k.Receive(b.seal(t, config(2)))
	if !errors.Is(err, b.applyErr) || lock.Cause(err) != "apply" || k.Version() != 1 {
		t.Fatalf("Receive = %v (cause %s), version %d, want the apply error and version 1", err, lock.Cause(err), k.Version())
	}
	if floor, err := b.cfg.Floor.Read(); floor != 1 || err != nil {
		t.Fatalf("floor = %d, %v, want 1", floor, err)
	}
}

func TestFloorMissing(t *testing.T) {
	b := newBench(t)
	b.cfg.Floor = tpmtest.Start(t).Floor()
	if _, err := b.keeper(t).Receive(b.seal(t, config(1))); err == nil || !strings.Contains(err.Error(), "not defined in the TPM") {
		t.Fatalf("Receive without a floor = %v, want a refusal", err)
	}
	b.cfg.Path = filepath.Join(t.TempDir(), "c")
	b.cfg.Owner = nil
	if _, err := New(b.cfg); err == nil {
		t.Fatal("New without an owner = nil error")
	}
}
