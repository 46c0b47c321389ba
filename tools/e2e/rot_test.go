package e2e

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"ringfence/tools/image"
)

// TestRottenSlot damages the preferred image: Secure Boot refuses it, the
// firmware falls back, and the phone makes the other slot its first, since the
// failed attempt in PCR 4 would cost it its trust at every boot.
func TestRottenSlot(t *testing.T) {
	requireLab(t)
	s := newSpine(t)
	rotten := filepath.Join(s.dir, "rotten.efi")
	within(t, time.Minute, func(ctx context.Context) error {
		return s.world.Manufacturer.Tamper(ctx, s.image, "kernel", rotten, false)
	})
	for slot, path := range map[image.Slot]string{image.SlotA: rotten, image.SlotB: s.image.UKI()} {
		if err := s.a.ReflashSlot(slot, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.a.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, s.a, bootLimit, `the preferred slot did not start`)
	expect(t, s.a, bootLimit, `stage name=attested`)
	expect(t, s.a, bootLimit, `ringfence call: registered`)
	within(t, time.Minute, func(ctx context.Context) error { return s.world.Site.WaitState(ctx, s.a.ID, "trusted") })
}
