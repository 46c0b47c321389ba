package appraise_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"ringfence/provisioning/appraise"
	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/release"
)

// TestSoftware: the load test's phone passes only while its key is listed, its
// image is the release and its answer is to this challenge.
func TestSoftware(t *testing.T) {
	s, err := appraisetest.NewSoftware(evidence.UseManagement, evidence.UseSeal)
	if err != nil {
		t.Fatal(err)
	}
	other, err := appraisetest.NewSoftware()
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&s.Keys[evidence.UseManagement].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	challenge := appraise.Challenge{Nonce: make([]byte, enroll.NonceSize), SPKI: spki, Exporter: make([]byte, enroll.ExporterSize),
		Keys: []string{evidence.UseManagement, evidence.UseSeal}}
	refs := []*release.Reference{appraisetest.Reference(appraisetest.Good(), "1.0.0")}
	changed := appraisetest.Good()
	changed.Kernel += "!"
	for _, c := range []struct {
		name  string
		boot  appraisetest.Boot
		ak    evidence.Digest
		nonce []byte
		want  string // "" means trusted
	}{
		{"good", appraisetest.Good(), s.AK(), challenge.Nonce, ""},
		{"key not listed", appraisetest.Good(), other.AK(), challenge.Nonce, "allow-listed"},
		{"other kernel", changed, s.AK(), challenge.Nonce, "kernel differs"},
		{"old nonce", appraisetest.Good(), s.AK(), append(make([]byte, 31), 1), "replayed"},
	} {
		ev, err := s.Prove(appraisetest.Measure(c.boot), c.nonce, spki, challenge.Exporter, challenge.Keys...)
		if err != nil {
			t.Fatal(err)
		}
		v := appraise.Appraise(ev, appraise.Expected{AK: c.ak, References: refs}, challenge)
		if got := strings.Join(v.Causes, "; "); v.Trusted() != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: Appraise = %q, want %q", c.name, got, c.want)
		}
	}
}
