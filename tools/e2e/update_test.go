package e2e

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"ringfence/tools/lab"
)

// TestUpdate takes a phone from 1.0.0 to 1.0.1 by everything that a release
// passes: two signatures, the log with its witness, the repository, a rollout,
// the idle slot, one trial boot and the commit. Then 1.0.2, which is signed and
// logged as well but is not what its reference values say, cannot prove itself,
// and the phone leaves it by itself.
func TestUpdate(t *testing.T) {
	requireLab(t)
	s := &spine{dir: t.TempDir()}
	var err error
	if s.world, err = lab.New(t.Context(), repository(t), filepath.Join(s.dir, "lab"), "virt64"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.world.Close)
	updates, err := lab.NewUpdates(t.Context(), filepath.Join(s.dir, "updates"), "virt64")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := updates.Close(); err != nil {
			t.Error(err)
		}
	})
	images := map[string]lab.Image{}
	build := func(name, version, trial string) {
		if images[name], err = s.world.Manufacturer.BuildImage(t.Context(), "virt64", version, filepath.Join(s.dir, name),
			"--trust", updates.Trust, "--cmdline-extra", "ringfence.trial="+trial); err != nil {
			t.Fatal(err)
		}
	}
	build("1.0.0", "1.0.0", "90")
	build("1.0.1", "1.0.1", "90")
	build("1.0.2", "1.0.2", "40")
	build("other", "1.0.2", "41")
	for i, version := range []string{"1.0.1", "1.0.2"} {
		if _, err := updates.Publish(t.Context(), s.world.Manufacturer, images[version], "virt64", version, uint64(i+2)); err != nil {
			t.Fatal(err)
		}
	}
	s.image = images["1.0.0"]
	s.a = s.phone(t, "A", "RF-000001", s.image)
	within(t, bootLimit, func(ctx context.Context) error { return s.a.Factory(ctx, s.manifest()) })
	s.startUpdatingSite(t, updates, images)
	if err := s.a.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, s.a, bootLimit, `ringfence call: registered`)

	s.rollout(t, "1.0.1", "lab/virt64/1.0.1/phone.efi")
	expect(t, s.a, bootLimit, `update.rebooting release=1.0.1`)
	expect(t, s.a, bootLimit, `slot running=b trial=true`)
	expect(t, s.a, bootLimit, `update.committed release=1.0.1`)
	within(t, time.Minute, func(ctx context.Context) error { return s.world.Site.WaitState(ctx, s.a.ID, "trusted") })

	s.rollout(t, "1.0.2", "lab/virt64/1.0.2/phone.efi")
	expect(t, s.a, bootLimit, `update.rebooting release=1.0.2`)
	expect(t, s.a, bootLimit, `slot running=a trial=true`)
	expect(t, s.a, bootLimit, `update.unhealthy release=1.0.2 cause=attest`)
	expect(t, s.a, bootLimit, `slot running=b trial=false`)
	expect(t, s.a, bootLimit, `update.reverted release=1.0.2 cause=attest`)
	within(t, time.Minute, func(ctx context.Context) error { return s.world.Site.WaitState(ctx, s.a.ID, "trusted") })
}

func (s *spine) startUpdatingSite(t *testing.T, updates *lab.Updates, images map[string]lab.Image) {
	t.Helper()
	w := s.world
	within(t, time.Minute, w.NewSite)
	within(t, time.Minute, func(ctx context.Context) error {
		if err := w.Site.ServeUpdates(updates.Dir); err != nil {
			return err
		}
		w.Site.Provisiond().Stop()
		return w.Site.StartProvisiond(ctx)
	})
	within(t, time.Minute, func(ctx context.Context) error { return w.Manufacturer.Vouchers(ctx, s.manifest(), w.Site.OwnerCA()) })
	within(t, time.Minute, func(ctx context.Context) error { return w.Import(ctx, s.image, s.manifest()) })
	within(t, time.Minute, func(ctx context.Context) error {
		for _, name := range []string{"1.0.1", "other"} {
			if _, err := w.Site.Admin(ctx, "reference", "import", images[name].Reference()); err != nil {
				return err
			}
		}
		return nil
	})
	within(t, time.Minute, func(ctx context.Context) error {
		return w.Site.Configure(ctx, s.a.ID, "line.user=100", "line.display=Phone 100")
	})
}

func (s *spine) rollout(t *testing.T, version, target string) {
	t.Helper()
	within(t, time.Minute, func(ctx context.Context) error {
		return lab.Poll(ctx, func() error { // the one before soaks for a second
			_, err := s.world.Site.Admin(ctx, "rollout", "start", version, "--target", target, "--ring", "all="+s.a.ID, "--soak", "1s")
			return err
		})
	})
}
