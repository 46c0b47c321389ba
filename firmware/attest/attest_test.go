package attest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ringfence/firmware/identity"
	"ringfence/hal/tpm/tpmtest"
	"ringfence/provisioning/wire/evidence"
)

// busy extends PCR 10 whenever the IMA log is read, times times.
type busy struct {
	vtpm  *tpmtest.TPM
	times int
	log   []byte
}

func (b *busy) read() ([]byte, error) {
	if b.times > 0 {
		b.times--
		b.log = append(b.log, 'x')
		if err := b.vtpm.Device.ExtendPCR(10, sha256.Sum256(b.log)); err != nil {
			return nil, err
		}
	}
	return bytes.Clone(b.log), nil
}

func newAttester(t *testing.T, vtpm *tpmtest.TPM, logs Logs) *Attester {
	t.Helper()
	keys, err := identity.Create(vtpm.Device, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(keys, logs)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func phoneLog() []evidence.Entry {
	return []evidence.Entry{{PCR: evidence.PCRDeviceTree, Kind: evidence.KindDeviceTree, Data: []byte("tree")}}
}

func TestEvidenceAgreesWithRegisters(t *testing.T) {
	vtpm := tpmtest.Start(t)
	for _, i := range evidence.PCRs { // all different, so that a mix-up shows
		if err := vtpm.Device.ExtendPCR(i, sha256.Sum256([]byte{byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		times   int
		wantErr string
	}{{"quiet", 0, ""}, {"IMA extends twice meanwhile", 2, ""}, {"never quiet", 100, "registers changed"}} {
		ima := &busy{vtpm: vtpm, times: test.times}
		a := newAttester(t, vtpm, Logs{Event: func() ([]byte, error) { return []byte("log"), nil }, IMA: ima.read, Phone: phoneLog})
		binding := sha256.Sum256([]byte(test.name))
		e, err := a.Evidence(binding[:], evidence.UseManagement, evidence.UseSeal)
		if test.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%s: Evidence = %v, want %q", test.name, err, test.wantErr)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		checkEvidence(t, e, binding[:])
		for _, i := range evidence.PCRs {
			if now, err := vtpm.Device.ReadPCR(i); err != nil || !bytes.Equal(now[:], e.PCRValues[i]) {
				t.Errorf("%s: evidence has PCR %d = %x, the TPM %x", test.name, i, e.PCRValues[i], now)
			}
		}
	}
}

func checkEvidence(t *testing.T, e *evidence.Evidence, binding []byte) {
	t.Helper()
	raw, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.Decode(raw); err != nil {
		t.Fatal(err)
	}
	if len(e.Keys) != 2 || e.Keys[0].Use != evidence.UseManagement || e.Keys[1].Use != evidence.UseSeal {
		t.Fatalf("keys %v, want management and seal", e.Keys)
	}
	for _, signed := range [][]byte{e.Quote, e.Keys[0].Certify, e.Keys[1].Certify} {
		attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](signed)
		if err != nil || !bytes.Equal(attest.ExtraData.Buffer, binding) {
			t.Errorf("qualifyingData differs from the binding (%v)", err)
		}
	}
	h := sha256.New()
	for _, i := range evidence.PCRs {
		h.Write(e.PCRValues[i])
	}
	quoted, err := quotedDigest(e.Quote)
	if err != nil || !bytes.Equal(quoted, h.Sum(nil)) {
		t.Errorf("quoted digest %x, registers shown give %x (%v)", quoted, h.Sum(nil), err)
	}
}

func TestRefusesToBuild(t *testing.T) {
	vtpm := tpmtest.Start(t)
	broken := errors.New("broken")
	good := func() ([]byte, error) { return []byte("log"), nil }
	for _, test := range []struct {
		name  string
		logs  Logs
		fault int
		want  error
	}{
		{"no extends", Logs{Event: func() ([]byte, error) { return nil, nil }, IMA: good, Phone: phoneLog}, 0, ErrNoExtends},
		{"event log unreadable", Logs{Event: func() ([]byte, error) { return nil, broken }, IMA: good, Phone: phoneLog}, 0, broken},
		{"IMA log unreadable", Logs{Event: good, IMA: func() ([]byte, error) { return nil, broken }, Phone: phoneLog}, 0, broken},
		{"TPM lost while reading registers", Logs{Event: good, IMA: good, Phone: phoneLog}, 1, tpmtest.ErrInjected},
		{"TPM lost while quoting", Logs{Event: good, IMA: good, Phone: phoneLog}, 4, tpmtest.ErrInjected},
	} {
		vtpm.Faults.FailAt(0, tpmtest.Lost)
		a := newAttester(t, vtpm, test.logs)
		vtpm.Faults.FailAt(test.fault, tpmtest.Lost)
		if e, err := a.Evidence(make([]byte, 32)); !errors.Is(err, test.want) {
			t.Errorf("%s: Evidence = %v, %v, want %v", test.name, e, err, test.want)
		}
	}
	if _, err := New(nil, Logs{Phone: phoneLog}); err == nil {
		t.Error("New without a quoter = nil error")
	}
}
