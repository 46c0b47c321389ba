package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
)

// requester makes the body of an enrolment request.
type requester func(attrs []byte, state *tls.ConnectionState, label enroll.Label, edit func(*evidence.Evidence)) ([]byte, error)

// software is a client whose attestation key is in memory: it shows what a
// real phone showed once, signed anew for each challenge. To the server it is
// a phone like any other; only its maker knows that there is no TPM.
type software struct {
	phone
	ak, management *ecdsa.PrivateKey
	shown          evidence.Evidence
}

func (r *running) software(template *phone, id device.ID) *software {
	r.t.Helper()
	zero := make([]byte, 32)
	keys := map[string]*appraisetest.Key{evidence.UseManagement: template.keys[evidence.UseManagement], evidence.UseSeal: template.keys[evidence.UseSeal]}
	ev, err := template.Prove(zero, zero, zero, keys)
	if err != nil {
		r.t.Fatal(err)
	}
	s := &software{ak: key(r.t), management: key(r.t), shown: *ev}
	s.id, s.server, s.roots = id, r.phones, r.roots()
	s.idevid = r.idevid(id, key(r.t))
	if s.shown.AK, err = withPoint(ev.AK, &s.ak.PublicKey); err != nil {
		r.t.Fatal(err)
	}
	for i, k := range s.shown.Keys {
		if k.Use == evidence.UseManagement {
			if s.shown.Keys[i].Public, err = withPoint(k.Public, &s.management.PublicKey); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.list(id, digestOf(s.shown.AK), s.idevid)
	return s
}

func (s *software) enrollOnce() error { return enrollBy(&s.phone, s.request) }

func (s *software) request(attrs []byte, state *tls.ConnectionState, _ enroll.Label, _ func(*evidence.Evidence)) ([]byte, error) {
	nonce, exporter, err := challenge(attrs, state)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(s.management.Public())
	if err != nil {
		return nil, err
	}
	binding := enroll.Binding(nonce, spki, exporter)
	ev := s.shown
	if ev.Quote, ev.QuoteSignature, err = s.attest(ev.Quote, binding, nil); err != nil {
		return nil, err
	}
	ev.Keys = slices.Clone(ev.Keys)
	for i := range ev.Keys {
		k := &ev.Keys[i]
		if k.Certify, k.Signature, err = s.attest(k.Certify, binding, k.Public); err != nil {
			return nil, err
		}
	}
	return signRequest(s.id, &ev, s.management)
}

// attest gives a TPMS_ATTEST new qualifying data and, for a certification, the
// name of public, and signs it.
func (s *software) attest(raw, binding, public []byte) (attest, signature []byte, err error) {
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](raw)
	if err != nil {
		return nil, nil, err
	}
	a.ExtraData.Buffer = binding
	if public != nil {
		area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
		if err != nil {
			return nil, nil, err
		}
		name, err := tpm2.ObjectName(area)
		if err != nil {
			return nil, nil, err
		}
		info, err := a.Attested.Certify()
		if err != nil {
			return nil, nil, err
		}
		info.Name = *name
		a.Attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, info)
	}
	attest = tpm2.Marshal(a)
	digest := sha256.Sum256(attest)
	x, y, err := ecdsa.Sign(rand.Reader, s.ak, digest[:])
	if err != nil {
		return nil, nil, err
	}
	return attest, tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: x.FillBytes(make([]byte, 32))},
		SignatureS: tpm2.TPM2BECCParameter{Buffer: y.FillBytes(make([]byte, 32))}})}), nil
}

// withPoint returns a TPMT_PUBLIC with another key's point.
func withPoint(public []byte, key *ecdsa.PublicKey) ([]byte, error) {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return nil, err
	}
	point, err := key.Bytes() // 4 | X | Y
	if err != nil {
		return nil, err
	}
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	changed := tpm2.Marshal(area)
	if len(changed) != len(public) || bytes.Equal(changed, public) {
		return nil, fmt.Errorf("public area of %d bytes became one of %d", len(public), len(changed))
	}
	return changed, nil
}
