package main

import (
	"testing"
	"time"

	"ringfence/provisioning/rollout"
)

// BenchmarkPush tells connected phones of a release: from the start of the
// rollout to the last phone that heard of it (last-ms), the spread between
// first and last phone (spread-ms), and CPU of the service per phone
// (cpu-us/phone) for all it does meanwhile: deciding, storing who was told,
// writing the frames and recording the answers. Each phone then refuses, so
// that no handshake is in it.
func BenchmarkPush(b *testing.B) {
	const n = 1000
	s := newSite(b, "rollout_canary_above = 20", "rollout_canary_above = 100000", "rollout_approval_above = 500", "rollout_approval_above = 100000")
	f, m := s.newPhones(n, 0)
	f.roll(dice{refused: 100})
	plan := rollout.Plan{Release: "1.1.0", Target: "x", Model: model, Rings: []rollout.Ring{{Name: "all", Percent: 100, Threshold: 1,
		Limit: rollout.Duration(time.Minute)}}}
	must(b, s.owner.importReference(b.Context(), m, plan.Release))
	var last, spread time.Duration
	heard := 0
	_, before := s.used()
	for b.Loop() {
		f.roll(dice{refused: 100})
		start := time.Now()
		v := new(rollout.View)
		must(b, s.owner.call(b.Context(), "POST", "/v1/rollouts", plan, v))
		waitFor(b, func() bool { return f.soFar().told >= n })
		c := f.soFar()
		last, spread = last+c.last.Sub(start), spread+c.last.Sub(c.first)
		heard += n
		waitFor(b, func() bool { return f.soFar().heard >= heard }) // before they can hear of another
		must(b, s.owner.call(b.Context(), "POST", "/v1/rollouts/"+v.ID+"/abort", nil, nil))
	}
	_, after := s.used()
	runs := float64(b.N)
	b.ReportMetric(float64(last.Milliseconds())/runs, "last-ms")
	b.ReportMetric(float64(spread.Milliseconds())/runs, "spread-ms")
	b.ReportMetric(float64((after-before).Microseconds())/runs/n, "cpu-us/phone")
	peak, _ := s.used()
	b.ReportMetric(float64(peak>>20), "peak-MiB")
}

func waitFor(b *testing.B, done func() bool) {
	b.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("it does not happen within a minute")
		}
	}
}
