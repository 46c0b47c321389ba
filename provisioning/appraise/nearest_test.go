package appraise

import (
	"crypto/sha256"
	"testing"

	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/release"
)

// A phone whose initramfs was changed differs from its own release in the same
// registers as from any other: the components tell which one it is.
func TestNearestByComponents(t *testing.T) {
	digest := func(s string) evidence.Digest { return sha256.Sum256([]byte(s)) }
	reference := func(version string) *release.Reference {
		r := &release.Reference{Schema: 1, Release: version, Model: "virt64", PCRs: map[int]evidence.Digest{}}
		for _, i := range release.ExactPCRs {
			r.PCRs[i] = digest("same")
		}
		for _, i := range []int{4, 9, 11} {
			r.PCRs[i] = digest(version)
		}
		for _, part := range []string{"kernel", "initramfs", "command line"} {
			name := part + version
			if part == "kernel" {
				name = part // both releases have the same kernel
			}
			r.Components = append(r.Components, release.Component{Name: part, SHA256: digest(name)})
		}
		return r
	}
	old, recent := reference("1.0.0"), reference("1.0.2")
	values := map[int]evidence.Digest{}
	for _, i := range release.ExactPCRs {
		values[i] = digest("same")
	}
	for _, i := range []int{4, 9, 11} {
		values[i] = digest("tampered")
	}
	for _, test := range []struct {
		name     string
		measured []string
		want     *release.Reference
	}{
		{"old release, initramfs changed", []string{"kernel", "changed", "command line1.0.0"}, old},
		{"old release, command line changed", []string{"kernel", "initramfs1.0.0", "changed"}, old},
		{"nothing known: the newest", []string{"changed"}, recent},
	} {
		var events []evidence.Event
		for _, m := range test.measured {
			events = append(events, evidence.Event{PCR: 11, Digest: digest(m)})
		}
		if got := nearest([]*release.Reference{old, recent}, values, events); got != test.want {
			t.Errorf("%s: nearest = %s, want %s", test.name, got.Release, test.want.Release)
		}
	}
}
