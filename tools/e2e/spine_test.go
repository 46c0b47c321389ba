package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ringfence/tools/lab"
)

const (
	bootLimit = 4 * time.Minute
	callLimit = 90 * time.Second
)

// spine is the world that the subtests of TestSpine share: booting is dear, so
// they boot once and assert much, in an order in which each leaves the phones
// as the next expects them.
type spine struct {
	world *lab.World
	image lab.Image
	a, b  *lab.Phone
	dir   string
}

// requireLab skips, loudly, where boards cannot be booted; scripts/test sets
// what is asked for here, and counts skips.
func requireLab(t testing.TB) {
	t.Helper()
	if os.Getenv("RINGFENCE_QEMU") == "" {
		t.Skip("SKIPPED: boots emulated boards; run scripts/test")
	}
	if !lab.InNamespace() {
		t.Fatal("RINGFENCE_QEMU is set outside of the lab's namespace; run scripts/test")
	}
}

func repository(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newSpine(t *testing.T) *spine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	s := &spine{dir: t.TempDir()}
	var err error
	if s.world, err = lab.New(ctx, repository(t), filepath.Join(s.dir, "lab"), "virt64"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.world.Close)
	if s.image, err = s.world.Manufacturer.BuildImage(ctx, "virt64", "1.0.0", filepath.Join(s.dir, "image")); err != nil {
		t.Fatal(err)
	}
	s.a, s.b = s.phone(t, "A", "RF-000001", s.image), s.phone(t, "B", "RF-000002", s.image)
	for _, p := range []*lab.Phone{s.a, s.b} {
		within(t, bootLimit, func(ctx context.Context) error { return p.Factory(ctx, s.manifest()) })
	}
	s.startSite(t)
	return s
}

func (s *spine) manifest() string { return filepath.Join(s.dir, "manifest.json") }

func (s *spine) phone(t *testing.T, name, id string, image lab.Image) *lab.Phone {
	t.Helper()
	p, err := s.world.NewPhone(t.Context(), name, id, image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.PowerCut)
	return p
}

func (s *spine) startSite(t *testing.T) {
	t.Helper()
	w := s.world
	within(t, time.Minute, w.NewSite)
	within(t, time.Minute, func(ctx context.Context) error { return w.Manufacturer.Vouchers(ctx, s.manifest(), w.Site.OwnerCA()) })
	within(t, time.Minute, func(ctx context.Context) error { return w.Import(ctx, s.image, s.manifest()) })
	within(t, time.Minute, func(ctx context.Context) error {
		return w.Site.Configure(ctx, s.a.ID, "line.user=100", "line.display=Phone 100")
	})
	within(t, time.Minute, func(ctx context.Context) error {
		return w.Site.Configure(ctx, s.b.ID, "line.user=101", "line.display=Phone 101")
	})
}

// within runs do with a time limit and fails the test with its error.
func within(t *testing.T, limit time.Duration, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := do(ctx); err != nil {
		t.Fatal(err)
	}
}

// expect waits for pattern on the phone's console since power-on.
func expect(t *testing.T, p *lab.Phone, limit time.Duration, pattern string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	match, err := p.Expect(ctx, pattern)
	if err != nil {
		t.Fatal(err)
	}
	return match
}
