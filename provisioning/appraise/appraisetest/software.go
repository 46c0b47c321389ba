package appraisetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
)

// Image is one boot measured without a TPM: logs, and the register values
// that they replay to. It is made once and shared by many phones.
type Image struct {
	log, ima []byte
	notes    []evidence.Entry
	values   map[int][]byte
	digest   []byte // of the quoted registers
}

// Measure boots b on paper.
func Measure(b Boot) *Image {
	events := b.Events()
	values := make(map[int]evidence.Digest)
	for _, ev := range events {
		values[ev.PCR] = values[ev.PCR].Extend(ev.Digest)
	}
	m := &Image{log: EncodeLog(events), values: make(map[int][]byte)}
	list := []evidence.Measurement{BootAggregateOf(values)}
	for _, file := range b.Files {
		list = append(list, evidence.Measurement{Path: "/init", SHA256: sha256.Sum256([]byte(file))})
	}
	for _, one := range list {
		entry, digest := EncodeIMA(one)
		m.ima = append(m.ima, entry...)
		values[evidence.PCRIMA] = values[evidence.PCRIMA].Extend(digest)
	}
	tree, radio := sha256.Sum256([]byte(b.DeviceTree)), evidence.CleanRadio()
	if b.Radio != "" {
		radio.Found = []string{b.Radio}
	}
	m.notes = []evidence.Entry{{PCR: evidence.PCRDeviceTree, Kind: evidence.KindDeviceTree, Data: tree[:]},
		{PCR: evidence.PCRRadio, Kind: evidence.KindRadio, Data: radio.Canonical()}}
	for _, n := range m.notes {
		values[n.PCR] = values[n.PCR].Extend(sha256.Sum256(n.Data))
	}
	h := sha256.New()
	for _, i := range evidence.PCRs {
		value := values[i]
		m.values[i] = value[:]
		h.Write(value[:])
	}
	m.digest = h.Sum(nil)
	return m
}

// Software plays a TPM with keys in memory, for load tests: what it makes is
// well-formed TPM structures that the unchanged service accepts, because the
// shipping manifest lists its attestation key. It protects nothing.
type Software struct {
	ak   *SoftKey
	Keys map[string]*SoftKey // by use: evidence.UseManagement, UseSeal and others
}

// SoftKey is a P-256 key and its public area as a TPM shows it.
type SoftKey struct {
	*ecdsa.PrivateKey
	Public []byte // TPMT_PUBLIC
	name   tpm2.TPM2BName
}

// NewSoftware makes an attestation key, and a key for each use.
func NewSoftware(uses ...string) (*Software, error) {
	s := &Software{Keys: make(map[string]*SoftKey)}
	var err error
	if s.ak, err = newSoftKey(func(t *tpm2.TPMTPublic) { t.ObjectAttributes.Restricted = true }); err != nil {
		return nil, err
	}
	for _, use := range uses {
		edit := func(*tpm2.TPMTPublic) {}
		if use == evidence.UseSeal {
			edit = sealing
		}
		if s.Keys[use], err = newSoftKey(edit); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func newSoftKey(edit func(*tpm2.TPMTPublic)) (*SoftKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	public := signing()
	edit(&public)
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	name, err := tpm2.ObjectName(&public)
	if err != nil {
		return nil, err
	}
	return &SoftKey{key, tpm2.Marshal(public), *name}, nil
}

// AK returns the digest that the allow-list holds.
func (s *Software) AK() evidence.Digest { return sha256.Sum256(s.ak.Public) }

// Prove answers a challenge as a phone that booted m: a quote, and a
// certification of each key of uses.
func (s *Software) Prove(m *Image, nonce, spki, exporter []byte, uses ...string) (*evidence.Evidence, error) {
	binding := enroll.Binding(nonce, spki, exporter)
	ev := &evidence.Evidence{AK: s.ak.Public, EventLog: m.log, IMALog: m.ima, PhoneLog: m.notes, PCRValues: m.values}
	mask := make([]byte, 3)
	for _, i := range evidence.PCRs {
		mask[i/8] |= 1 << (i % 8)
	}
	quote := &tpm2.TPMSQuoteInfo{PCRSelect: selection(mask), PCRDigest: tpm2.TPM2BDigest{Buffer: m.digest}}
	var err error
	if ev.Quote, ev.QuoteSignature, err = s.attest(binding, tpm2.TPMSTAttestQuote, tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, quote)); err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	for _, use := range uses {
		key, ok := s.Keys[use]
		if !ok {
			return nil, fmt.Errorf("certify %s: no such key", use)
		}
		k := evidence.CertifiedKey{Use: use, Public: key.Public}
		info := &tpm2.TPMSCertifyInfo{Name: key.name, QualifiedName: key.name}
		if k.Certify, k.Signature, err = s.attest(binding, tpm2.TPMSTAttestCertify, tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, info)); err != nil {
			return nil, fmt.Errorf("certify %s: %w", use, err)
		}
		ev.Keys = append(ev.Keys, k)
	}
	return ev, nil
}

// attest makes and signs a TPMS_ATTEST (TPM 2.0 part 2, 10.12.12).
func (s *Software) attest(binding []byte, kind tpm2.TPMST, attested tpm2.TPMUAttest) (raw, signature []byte, err error) {
	raw = tpm2.Marshal(tpm2.TPMSAttest{Magic: tpm2.TPMGeneratedValue, Type: kind, QualifiedSigner: s.ak.name,
		ExtraData: tpm2.TPM2BData{Buffer: binding}, ClockInfo: tpm2.TPMSClockInfo{Safe: true}, Attested: attested})
	digest := sha256.Sum256(raw)
	der, err := s.ak.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, nil, err
	}
	sig, err := parseDER(der)
	if err != nil {
		return nil, nil, err
	}
	return raw, tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: sig[0]}, SignatureS: tpm2.TPM2BECCParameter{Buffer: sig[1]}})}), nil
}

// parseDER returns r and s of an ECDSA signature, 32 bytes each.
func parseDER(der []byte) (rs [2][]byte, err error) {
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return rs, fmt.Errorf("parse signature: %w", err)
	}
	rs[0], rs[1] = sig.R.FillBytes(make([]byte, 32)), sig.S.FillBytes(make([]byte, 32))
	return rs, nil
}
