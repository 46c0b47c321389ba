package appraise

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/release"
)

// fixture is one phone with one key, its evidence and what is expected of it.
type fixture struct {
	phone     *appraisetest.Phone
	key       *appraisetest.Key
	ev        *evidence.Evidence
	want      Expected
	challenge Challenge
}

func newFixture(t *testing.T, b appraisetest.Boot) *fixture {
	t.Helper()
	f := &fixture{phone: appraisetest.Start(t, b)}
	var err error
	if f.key, err = f.phone.NewKey(nil); err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(f.key.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	f.challenge = Challenge{Nonce: slices.Repeat([]byte{1}, 32), Exporter: slices.Repeat([]byte{2}, 32), SPKI: spki, Keys: []string{evidence.UseManagement}}
	f.want = Expected{AK: f.phone.AK(), References: []*release.Reference{appraisetest.Reference(appraisetest.Good(), "1.0.0")}}
	f.prove(t)
	return f
}

func (f *fixture) prove(t *testing.T) {
	t.Helper()
	ev, err := f.phone.Prove(f.challenge.Nonce, f.challenge.SPKI, f.challenge.Exporter, map[string]*appraisetest.Key{evidence.UseManagement: f.key})
	if err != nil {
		t.Fatal(err)
	}
	f.ev = ev
}

func (f *fixture) expect(t *testing.T, causes ...string) {
	t.Helper()
	v := Appraise(f.ev, f.want, f.challenge)
	if v.Trusted() != (len(causes) == 0) || len(v.Causes) != len(causes) {
		t.Fatalf("Appraise() causes = %q, want %q", v.Causes, causes)
	}
	for i, want := range causes {
		if !strings.Contains(v.Causes[i], want) {
			t.Errorf("cause %d = %q, want %q in it", i, v.Causes[i], want)
		}
	}
}

// TestBoots: each boot differs in one thing only, and that thing is named.
func TestBoots(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(*appraisetest.Boot)
		causes []string
	}{
		{"good", func(*appraisetest.Boot) {}, nil},
		{"kernel", func(b *appraisetest.Boot) { b.Kernel += "x" }, []string{"kernel differs: measured "}},
		{"initramfs", func(b *appraisetest.Boot) { b.Initramfs += "x" }, []string{"initramfs differs"}},
		{"command line", func(b *appraisetest.Boot) { b.CommandLine += "x" }, []string{"command line differs"}},
		{"device tree", func(b *appraisetest.Boot) { b.DeviceTree += "x" }, []string{"device tree differs"}},
		{"radio", func(b *appraisetest.Boot) { b.Radio = "bluetooth:hci0" }, []string{"radio found: bluetooth:hci0"}},
		{"secure boot", func(b *appraisetest.Boot) { b.SecureBoot = false }, []string{"PCR 7 (Secure Boot state and keys) differs", "Secure Boot is off"}},
		{"boot entry", func(b *appraisetest.Boot) { b.BootFile = `\EFI\evil.efi` }, []string{`Boot00A0 starts "\\EFI\\evil.efi"`}},
		{"slot b", func(b *appraisetest.Boot) { b.BootFile = `\EFI\phone\b.efi` }, nil},
		{"extra action", func(b *appraisetest.Boot) { b.Extra = "surprise" }, []string{"PCR 5: unexpected event"}},
		{"unknown file", func(b *appraisetest.Boot) { b.Files = []string{"evil"} }, []string{`IMA: "/init"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := appraisetest.Good()
			c.edit(&b)
			newFixture(t, b).expect(t, c.causes...)
		})
	}
}

// TestChecks: each case breaks exactly one check of good evidence.
func TestChecks(t *testing.T) {
	f := newFixture(t, appraisetest.Good())
	other := newFixture(t, appraisetest.Good())
	for _, c := range []struct {
		name  string
		edit  func(f *fixture)
		cause string
	}{
		{"nonce", func(f *fixture) { f.challenge.Nonce = slices.Repeat([]byte{9}, 32) }, "not over our nonce"},
		{"key", func(f *fixture) { f.challenge.SPKI = append(slices.Clone(f.challenge.SPKI), 0) }, "not over our nonce"},
		{"connection", func(f *fixture) { f.challenge.Exporter = slices.Repeat([]byte{9}, 32) }, "not over our nonce"},
		{"foreign AK", func(f *fixture) { f.want.AK = other.want.AK }, "not the allow-listed"},
		{"foreign signature", func(f *fixture) { f.ev.QuoteSignature = other.ev.QuoteSignature }, "signature is not by the attestation key"},
		{"certify as quote", func(f *fixture) { f.ev.Quote, f.ev.QuoteSignature = f.ev.Keys[0].Certify, f.ev.Keys[0].Signature }, "want a quote"},
		{"register value", func(f *fixture) { f.ev.PCRValues[12] = make([]byte, 32) }, "quoted digest is not that"},
		{"register missing", func(f *fixture) { delete(f.ev.PCRValues, 12) }, "12 PCR values"},
		{"log cut", func(f *fixture) { f.ev.EventLog = f.ev.EventLog[:len(f.ev.EventLog)-1] }, "event log: "},
		{"log empty", func(f *fixture) { f.ev.EventLog = appraisetest.EncodeLog(nil) }, "no extends is refused"},
		{"phone log", func(f *fixture) { f.ev.PhoneLog = f.ev.PhoneLog[:1] }, "phone log: "},
		{"IMA list", func(f *fixture) { f.ev.IMALog = f.ev.IMALog[:8] }, "IMA: "},
		{"no reference", func(f *fixture) { f.want.References = nil }, "no reference values"},
		{"key not shown", func(f *fixture) { f.ev.Keys = nil }, `no certified "management" key`},
		{"key of another TPM", func(f *fixture) { f.ev.Keys = other.ev.Keys }, "certification: signature is not by the attestation key"},
		{"key swapped", func(f *fixture) { f.ev.Keys[0].Public = other.ev.Keys[0].Public }, "certification is for another key"},
		{"use", func(f *fixture) { f.ev.Keys[0].Use = evidence.UseSeal }, "attributes do not fit"},
		{"key twice", func(f *fixture) { f.ev.Keys = append(f.ev.Keys, f.ev.Keys[0]) }, "certified twice"},
		{"quote as certify", func(f *fixture) { f.ev.Keys[0].Certify, f.ev.Keys[0].Signature = f.ev.Quote, f.ev.QuoteSignature }, "want certify"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := *f
			bad.prove(t)
			c.edit(&bad)
			bad.expect(t, c.cause)
		})
	}
}

// TestResidency: a key that may leave the TPM, or was not made in it.
func TestResidency(t *testing.T) {
	f := newFixture(t, appraisetest.Good())
	key, err := f.phone.NewKey(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM, p.ObjectAttributes.FixedParent = false, false })
	if err != nil {
		t.Fatal(err)
	}
	f.key = key
	f.prove(t)
	f.expect(t, "not fixed to the TPM")
}

// TestLateRadio: a radio that appears after the boot is in the next proof.
func TestLateRadio(t *testing.T) {
	f := newFixture(t, appraisetest.Good())
	late := evidence.CleanRadio()
	late.Found = []string{"wlan:phy0 (mac80211_hwsim)"}
	if err := f.phone.Note(evidence.PCRRadio, evidence.KindRadio, late.Canonical()); err != nil {
		t.Fatal(err)
	}
	f.prove(t)
	f.expect(t, "radio found: wlan:phy0 (mac80211_hwsim)")
}

func TestZeroVerdict(t *testing.T) {
	if new(Verdict).Trusted() {
		t.Error("the zero Verdict is trusted")
	}
}
