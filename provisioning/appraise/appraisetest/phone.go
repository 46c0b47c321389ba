// Package appraisetest is a phone for tests of the service: a real TPM 2.0
// (swtpm) that was booted by a scripted firmware, and that quotes and certifies
// as firmware/attest does. It is not shipped and judges nothing.
package appraisetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
)

// Phone is one booted phone. Not safe for concurrent use.
type Phone struct {
	tpm   transport.TPM
	srk   tpm2.TPMHandle
	name  tpm2.TPM2BName
	keys  uint32 // made so far
	ak    *Key
	Log   []byte // event log of its boot
	IMA   []byte
	Notes []evidence.Entry // phone log
}

// Key is a key in the phone's TPM; it is a crypto.Signer.
type Key struct {
	tpm    transport.TPM
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	Public []byte // TPMT_PUBLIC
	pub    *ecdsa.PublicKey
}

// Start runs a TPM of its own and boots b on it. Everything ends with t.
func Start(t testing.TB, b Boot) *Phone {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("RINGFENCE_REQUIRE") != "" {
			t.Fatal("swtpm is not installed: run scripts/setup")
		}
		t.Skip("SKIP: swtpm is not installed: run scripts/setup")
	}
	dir, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+sock, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 200 {
		conn, err := net.Dial("unix", sock)
		if err == nil {
			_ = conn.Close() // it only shows that the TPM listens
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	tpm, err := linuxudstpm.Open(sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	p := &Phone{tpm: tpm}
	if err := p.boot(b); err != nil {
		t.Fatalf("boot: %v", err)
	}
	return p
}

func (p *Phone) boot(b Boot) error {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(p.tpm)
	if err != nil {
		return fmt.Errorf("create SRK: %w", err)
	}
	p.srk, p.name = rsp.ObjectHandle, rsp.Name
	if p.ak, err = p.NewKey(func(t *tpm2.TPMTPublic) { t.ObjectAttributes.Restricted = true }); err != nil {
		return err
	}
	events := b.Events()
	p.Log = EncodeLog(events)
	values := make(map[int]evidence.Digest)
	for _, ev := range events {
		values[ev.PCR] = values[ev.PCR].Extend(ev.Digest)
		if err := p.Extend(ev.PCR, ev.Digest); err != nil {
			return err
		}
	}
	var digest evidence.Digest
	p.IMA, digest = EncodeIMA(BootAggregateOf(values))
	if err := p.Extend(evidence.PCRIMA, digest); err != nil {
		return err
	}
	for _, file := range b.Files {
		if err := p.Run("/init", file); err != nil {
			return err
		}
	}
	tree := sha256.Sum256([]byte(b.DeviceTree))
	if err := p.Note(evidence.PCRDeviceTree, evidence.KindDeviceTree, tree[:]); err != nil {
		return err
	}
	radio := evidence.CleanRadio()
	if b.Radio != "" {
		radio.Found = []string{b.Radio}
	}
	return p.Note(evidence.PCRRadio, evidence.KindRadio, radio.Canonical())
}

// Extend extends one register of the TPM.
func (p *Phone) Extend(pcr int, d evidence.Digest) error {
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: d[:]}}},
	}.Execute(p.tpm)
	return err
}

// Note is what PID 1 does: extend, and keep the entry.
func (p *Phone) Note(pcr int, kind string, data []byte) error {
	p.Notes = append(p.Notes, evidence.Entry{PCR: pcr, Kind: kind, Data: data})
	return p.Extend(pcr, sha256.Sum256(data))
}

// Run is what IMA does when a file is executed.
func (p *Phone) Run(path, content string) error {
	entry, digest := EncodeIMA(evidence.Measurement{Path: path, SHA256: sha256.Sum256([]byte(content))})
	p.IMA = append(p.IMA, entry...)
	return p.Extend(evidence.PCRIMA, digest)
}

// AK returns the digest that the allow-list holds.
func (p *Phone) AK() evidence.Digest { return sha256.Sum256(p.ak.Public) }

// signing is the template of a P-256 signing key that lives in its TPM.
func signing() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// sealing turns a signing template into that of the key that configurations
// are sealed to.
func sealing(t *tpm2.TPMTPublic) {
	t.ObjectAttributes.SignEncrypt, t.ObjectAttributes.Decrypt = false, true
	t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
}

// NewKey creates a P-256 signing key under the SRK; edit changes its template.
func (p *Phone) NewKey(edit func(*tpm2.TPMTPublic)) (*Key, error) {
	template := signing()
	if edit != nil {
		edit(&template)
	}
	parent := tpm2.NamedHandle{Handle: p.srk, Name: p.name}
	created, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template)}.Execute(p.tpm)
	if err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: created.OutPrivate, InPublic: created.OutPublic}.Execute(p.tpm)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	public, err := created.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	handle, err := p.persist(loaded.ObjectHandle, loaded.Name)
	if err != nil {
		return nil, err
	}
	return p.wrap(handle, loaded.Name, public)
}

// persist frees one of the TPM's three slots for loaded objects.
func (p *Phone) persist(handle tpm2.TPMHandle, name tpm2.TPM2BName) (tpm2.TPMHandle, error) {
	p.keys++
	kept := tpm2.TPMHandle(0x81000000 + p.keys)
	if _, err := (tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: handle, Name: name}, PersistentHandle: kept}).Execute(p.tpm); err != nil {
		return 0, fmt.Errorf("persist key: %w", err)
	}
	_, err := tpm2.FlushContext{FlushHandle: handle}.Execute(p.tpm)
	return kept, err
}

// NewSealKey creates the P-256 key that configurations are sealed to.
func (p *Phone) NewSealKey() (*Key, error) {
	return p.NewKey(sealing)
}

func (p *Phone) wrap(handle tpm2.TPMHandle, name tpm2.TPM2BName, public *tpm2.TPMTPublic) (*Key, error) {
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 65) // 0x04, X, Y: SEC 1, 2.3.3
	raw[0] = 4
	new(big.Int).SetBytes(point.X.Buffer).FillBytes(raw[1:33])
	new(big.Int).SetBytes(point.Y.Buffer).FillBytes(raw[33:])
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return nil, fmt.Errorf("public key of the TPM: %w", err)
	}
	return &Key{tpm: p.tpm, handle: handle, name: name, Public: tpm2.Marshal(public), pub: pub}, nil
}

// ECDH multiplies the peer's uncompressed point, for opening a seal.
func (k *Key) ECDH(x, y []byte) ([]byte, error) {
	rsp, err := tpm2.ECDHZGen{KeyHandle: tpm2.NamedHandle{Handle: k.handle, Name: k.name},
		InPoint: tpm2.New2B(tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}})}.Execute(k.tpm)
	if err != nil {
		return nil, err
	}
	point, err := rsp.OutPoint.Contents()
	if err != nil {
		return nil, err
	}
	return point.X.Buffer, nil
}

// PublicKey is the public half; the caller must not change it.
func (k *Key) PublicKey() *ecdsa.PublicKey { return k.pub }

// Signer returns k as a crypto.Signer.
func (k *Key) Signer() crypto.Signer { return signer{k} }

type signer struct{ *Key }

func (s signer) Public() crypto.PublicKey { return s.pub }

func (s signer) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	rsp, err := tpm2.Sign{KeyHandle: tpm2.NamedHandle{Handle: s.handle, Name: s.name},
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(s.tpm)
	if err != nil {
		return nil, err
	}
	sig, err := rsp.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)})
}

// Prove answers a challenge: a fresh quote, and a certification of each key.
func (p *Phone) Prove(nonce, spki, exporter []byte, keys map[string]*Key) (*evidence.Evidence, error) {
	binding := enroll.Binding(nonce, spki, exporter)
	ev := &evidence.Evidence{AK: p.ak.Public, EventLog: p.Log, IMALog: p.IMA, PhoneLog: p.Notes, PCRValues: make(map[int][]byte)}
	var mask [3]byte
	for _, i := range evidence.PCRs {
		mask[i/8] |= 1 << (i % 8)
		one := make([]byte, 3)
		one[i/8] = 1 << (i % 8)
		rsp, err := tpm2.PCRRead{PCRSelectionIn: selection(one)}.Execute(p.tpm)
		if err != nil {
			return nil, err
		}
		ev.PCRValues[i] = rsp.PCRValues.Digests[0].Buffer
	}
	return ev, p.quote(ev, mask[:], binding, keys)
}

func (p *Phone) quote(ev *evidence.Evidence, mask, binding []byte, keys map[string]*Key) error {
	auth := tpm2.AuthHandle{Handle: p.ak.handle, Name: p.ak.name, Auth: tpm2.PasswordAuth(nil)}
	rsp, err := tpm2.Quote{SignHandle: auth, QualifyingData: tpm2.TPM2BData{Buffer: binding},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: selection(mask)}.Execute(p.tpm)
	if err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	ev.Quote, ev.QuoteSignature = rsp.Quoted.Bytes(), tpm2.Marshal(rsp.Signature)
	for use, k := range keys {
		c, err := tpm2.Certify{ObjectHandle: tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.PasswordAuth(nil)},
			SignHandle: auth, QualifyingData: tpm2.TPM2BData{Buffer: binding}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}}.Execute(p.tpm)
		if err != nil {
			return fmt.Errorf("certify %s: %w", use, err)
		}
		ev.Keys = append(ev.Keys, evidence.CertifiedKey{Use: use, Public: k.Public,
			Certify: c.CertifyInfo.Bytes(), Signature: tpm2.Marshal(c.Signature)})
	}
	return nil
}

func selection(mask []byte) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: mask}}}
}
