// Package appraise judges what a phone shows against what a signed release
// must show: Evidence in, Verdict out. It keeps no state and decides nothing
// about the device record; that is package fleet.
//
// Sources: RFC 9334 (roles), TPM 2.0 Library part 2 (TPMS_ATTEST), TCG PC
// Client Platform Firmware Profile 1.05 (event log).
package appraise

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/release"
)

// Challenge is what the evidence must answer.
type Challenge struct {
	Nonce    []byte   // 32 bytes, given to this connection and to no other
	SPKI     []byte   // DER SubjectPublicKeyInfo that the evidence speaks for
	Exporter []byte   // TLS exporter of the connection the evidence came on
	Keys     []string // uses that must be certified beside it, such as evidence.UseSeal
}

// Expected is what is known about the device.
type Expected struct {
	AK         evidence.Digest      // SHA-256 of its allow-listed attestation key
	References []*release.Reference // releases its model may run, verified
}

// Verdict is the result. The zero value is not trusted.
type Verdict struct {
	Release string   // that the phone proved to run
	Causes  []string // why it is refused; each names the part that differs
	Keys    map[string]*ecdsa.PublicKey
	judged  bool
}

// Trusted says that every check passed.
func (v *Verdict) Trusted() bool { return v.judged && len(v.Causes) == 0 }

func (v *Verdict) refuse(format string, args ...any) {
	v.Causes = append(v.Causes, fmt.Sprintf(format, args...))
}

// Appraise judges ev. It is a pure function and safe for concurrent use.
func Appraise(ev *evidence.Evidence, want Expected, challenge Challenge) *Verdict {
	v := &Verdict{Keys: make(map[string]*ecdsa.PublicKey)}
	ak, values, err := authenticate(ev, want.AK, challenge)
	if err != nil {
		v.refuse("%v", err)
		return v
	}
	if err := v.certified(ev, ak, challenge); err != nil {
		v.refuse("%v", err)
		return v
	}
	events, err := evidence.VerifyEventLog(ev.EventLog, firmwareValues(values))
	if err != nil {
		v.refuse("event log: %v", err)
		return v
	}
	state, err := evidence.VerifyPhoneLog(ev.PhoneLog, values[evidence.PCRDeviceTree], values[evidence.PCRRadio])
	if err != nil {
		v.refuse("phone log: %v", err)
		return v
	}
	ref := nearest(want.References, values, events)
	if ref == nil {
		v.refuse("no reference values for this model: import a signed release first")
		return v
	}
	v.measurements(ref, values, events, state)
	v.policy(ref, events)
	v.ima(ref, ev.IMALog, values)
	v.Release, v.judged = ref.Release, true
	return v
}

// authenticate proves that values are what the allow-listed TPM holds now, on
// this connection, and returns them with the key that signed.
func authenticate(ev *evidence.Evidence, ak evidence.Digest, c Challenge) (*ecdsa.PublicKey, map[int]evidence.Digest, error) {
	if err := ev.Validate(); err != nil {
		return nil, nil, err
	}
	if len(c.Nonce) != enroll.NonceSize || len(c.SPKI) == 0 || len(c.Exporter) != enroll.ExporterSize {
		return nil, nil, errors.New("challenge without nonce, key or connection")
	}
	if got := evidence.Digest(sha256.Sum256(ev.AK)); got != ak {
		return nil, nil, fmt.Errorf("attestation key %s is not the allow-listed %s", got, ak)
	}
	key, err := attestationKey(ev.AK)
	if err != nil {
		return nil, nil, fmt.Errorf("attestation key: %w", err)
	}
	quote, err := verifyAttest(ev.Quote, ev.QuoteSignature, key, enroll.Binding(c.Nonce, c.SPKI, c.Exporter))
	if err != nil {
		return nil, nil, fmt.Errorf("quote: %w", err)
	}
	values := make(map[int]evidence.Digest, len(evidence.PCRs))
	h := sha256.New()
	for _, i := range evidence.PCRs {
		h.Write(ev.PCRValues[i])
		values[i] = evidence.Digest(ev.PCRValues[i])
	}
	if err := checkQuote(quote, h.Sum(nil)); err != nil {
		return nil, nil, fmt.Errorf("quote: %w", err)
	}
	return key, values, nil
}

// certified checks that every key shown lives in the same TPM and that each
// required use is there.
func (v *Verdict) certified(ev *evidence.Evidence, ak *ecdsa.PublicKey, c Challenge) error {
	binding := enroll.Binding(c.Nonce, c.SPKI, c.Exporter)
	for _, k := range ev.Keys {
		if _, twice := v.Keys[k.Use]; twice {
			return fmt.Errorf("key %q is certified twice", k.Use)
		}
		pub, err := verifyCertified(k, ak, binding)
		if err != nil {
			return fmt.Errorf("key %q: %w", k.Use, err)
		}
		v.Keys[k.Use] = pub
	}
	for _, use := range c.Keys {
		if v.Keys[use] == nil {
			return fmt.Errorf("no certified %q key: its residency in the TPM is not proved", use)
		}
	}
	return nil
}

// firmwareValues are the registers that the TCG log may extend.
func firmwareValues(values map[int]evidence.Digest) map[int]evidence.Digest {
	quoted := make(map[int]evidence.Digest)
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 11} {
		quoted[i] = values[i]
	}
	return quoted
}

// nearest picks the reference that agrees in most registers and components (one
// changed component changes several registers at once); the newest wins
// a tie. A difference is then named against that release.
func nearest(refs []*release.Reference, values map[int]evidence.Digest, events []evidence.Event) *release.Reference {
	measured := make(map[evidence.Digest]bool, len(events))
	for _, e := range events {
		measured[e.Digest] = true
	}
	score := func(r *release.Reference) (n int) {
		for _, i := range release.ExactPCRs {
			if r.PCRs[i] == values[i] {
				n++
			}
		}
		for _, c := range r.Components {
			if measured[c.SHA256] {
				n++
			}
		}
		return n
	}
	newer := func(a, b *release.Reference) int {
		va, errA := release.ParseVersion(a.Release)
		vb, errB := release.ParseVersion(b.Release)
		if errA != nil || errB != nil {
			return 0
		}
		return va.Compare(vb)
	}
	if len(refs) == 0 {
		return nil
	}
	return slices.MaxFunc(refs, func(a, b *release.Reference) int {
		if d := score(a) - score(b); d != 0 {
			return d
		}
		return newer(a, b)
	})
}

// SameKey compares a verified key with the key of a request.
func SameKey(a *ecdsa.PublicKey, b crypto.PublicKey) bool {
	other, ok := b.(*ecdsa.PublicKey)
	return ok && a != nil && a.Equal(other)
}

func sameBytes(a, b []byte) bool { return len(a) > 0 && bytes.Equal(a, b) }
