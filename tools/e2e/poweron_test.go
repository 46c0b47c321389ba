package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ringfence/tools/lab"
)

// milestone is a line of the console that ends one stage of a start.
type milestone struct{ name, pattern string }

// milestones of a phone that is enrolled already, in their order. "firmware"
// ends when UEFI starts the image it has verified.
func milestones() []milestone {
	return []milestone{
		{"firmware", `BdsDxe: starting `},
		{"init", `stage name=init\b`},
		{"measured", `stage name=measured\b`},
		{"network", `stage name=network\b`},
		{"attested", `stage name=attested\b`},
		{"configured", `stage name=configured\b`},
		{"registered", `ringfence call: registered `},
	}
}

// starts is how often the phone is powered on; the medians are reported.
const starts = 3

// BenchmarkPowerOn gives the seconds of wall time from power-on to each
// milestone, as NAME-s, for an enrolled phone that is the only one on the
// machine (the site's servers run beside it). Before each start the phone
// loses its power without warning.
func BenchmarkPowerOn(b *testing.B) {
	requireLab(b)
	p := enrolledPhone(b)
	seen := map[string][]float64{}
	for b.Loop() {
		for range starts {
			p.PowerCut()
			powerOn(b, p, seen)
		}
	}
	for _, m := range milestones() {
		slices.Sort(seen[m.name])
		b.ReportMetric(seen[m.name][len(seen[m.name])/2], m.name+"-s")
	}
	b.ReportMetric(0, "ns/op") // of preparation and three starts together: says nothing
}

func powerOn(b *testing.B, p *lab.Phone, seen map[string][]float64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), bootLimit)
	defer cancel()
	begin := time.Now()
	if err := p.Boot(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, m := range milestones() {
		if _, err := p.Expect(ctx, m.pattern); err != nil {
			b.Fatalf("wait for %s: %v", m.name, err)
		}
		seen[m.name] = append(seen[m.name], time.Since(begin).Seconds())
	}
}

// enrolledPhone takes a new phone through factory and enrolment, until it has
// registered once.
func enrolledPhone(b *testing.B) *lab.Phone {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Minute) // builds the kernel when none is cached
	defer cancel()
	dir := b.TempDir()
	w, err := lab.New(ctx, repository(b), filepath.Join(dir, "lab"), "virt64")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Close)
	image, err := w.Manufacturer.BuildImage(ctx, "virt64", "1.0.0", filepath.Join(dir, "image"))
	if err != nil {
		b.Fatal(err)
	}
	p, err := w.NewPhone(ctx, "A", "RF-000001", image)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.PowerCut)
	manifest := filepath.Join(dir, "manifest.json")
	for _, step := range []func() error{
		func() error { return p.Factory(ctx, manifest) },
		func() error { return w.NewSite(ctx) },
		func() error { return w.Manufacturer.Vouchers(ctx, manifest, w.Site.OwnerCA()) },
		func() error { return w.Import(ctx, image, manifest) },
		func() error { return w.Site.Configure(ctx, p.ID, "line.user=100", "line.display=Bench") },
	} {
		if err := step(); err != nil {
			b.Fatal(err)
		}
	}
	powerOn(b, p, map[string][]float64{})
	return p
}
