package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/provisioning/wire/report"
	"ringfence/tools/lab"
)

// TestTamperedImage changes one bit in each component of an enrolled phone's
// image. Under the old signature the firmware must not start it; signed again
// by a thief of the db key it starts, and the service must name the component.
func TestTamperedImage(t *testing.T) {
	requireLab(t)
	s := newSpine(t)
	s.powerOn(t)
	for _, component := range []string{"kernel", "initramfs", "command line"} {
		t.Run(component, func(t *testing.T) {
			s.tampered(t, component, false)
			expect(t, s.b, bootLimit, `Access Denied`)
			if text := s.b.Machine.Console().Text(); strings.Contains(text, "ringfence init") || strings.Contains(text, "Linux version") {
				t.Errorf("a kernel started from an image with a broken signature:\n%s", text)
			}
			s.tampered(t, component, true)
			expect(t, s.b, bootLimit, `ringfence agent: evidence.refused `) // of this boot: the service may still hold the last one's verdict
			within(t, bootLimit, func(ctx context.Context) error { return s.world.Site.WaitState(ctx, s.b.ID, "refused") })
			d, err := s.world.Site.Device(t.Context(), s.b.ID)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(d.Reason, component+" differs") {
				t.Errorf("refused for %q, want the %s named", d.Reason, component)
			}
			for _, other := range []string{"kernel", "initramfs", "command line", "os-release", "device tree"} {
				if other != component && strings.Contains(d.Reason, other+" differs") {
					t.Errorf("refused for %q: the %s did not change", d.Reason, other)
				}
			}
		})
	}
	t.Run("control", func(t *testing.T) {
		s.b.PowerCut()
		within(t, time.Minute, func(ctx context.Context) error { return s.b.Reflash(ctx, s.image.UKI()) })
		if err := s.b.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, s.b, bootLimit, `stage name=registered\b`)
		within(t, bootLimit, func(ctx context.Context) error { return s.world.Site.WaitState(ctx, s.b.ID, "trusted") })
	})
}

// tampered powers phone B on with an altered image.
func (s *spine) tampered(t *testing.T, component string, resign bool) {
	t.Helper()
	s.b.PowerCut()
	image := filepath.Join(s.dir, "tampered.efi")
	within(t, time.Minute, func(ctx context.Context) error {
		return s.world.Manufacturer.Tamper(ctx, s.image, component, image, resign)
	})
	within(t, time.Minute, func(ctx context.Context) error { return s.b.Reflash(ctx, image) })
	if err := s.b.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLabImage uses images with the lab role and simulated radios: what must
// be found when it is there is planted, and found.
func TestLabImage(t *testing.T) {
	requireLab(t)
	s := newSpine(t)
	quiet := s.labPhone(t, "L", "RF-000101", "1.0.1", "--tags", "lab", "--cmdline-extra", "mac80211_hwsim.radios=0")
	loud := s.labPhone(t, "W", "RF-000102", "1.0.2", "--tags", "lab", "--cmdline-extra", "mac80211_hwsim.radios=1")
	t.Run("planted listener is found", func(t *testing.T) { s.plantedListener(t, quiet) })
	t.Run("radio that appears is refused", func(t *testing.T) { s.radioAppears(t, quiet) })
	t.Run("radio at boot is refused", func(t *testing.T) { s.radioAtBoot(t, loud) })
}

// labPhone makes, enrols in the factory and lists a phone with a test image
// whose reference values the owner imported: nothing but what is planted
// speaks against it.
func (s *spine) labPhone(t *testing.T, name, id, version string, flags ...string) *lab.Phone {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	image, err := s.world.Manufacturer.BuildImage(ctx, "virt64", version, filepath.Join(s.dir, "image-"+version), append(flags, "--test")...)
	if err != nil {
		t.Fatal(err)
	}
	p := s.phone(t, name, id, image)
	manifest := filepath.Join(s.dir, "manifest-"+version+".json")
	within(t, bootLimit, func(ctx context.Context) error { return p.Factory(ctx, manifest) })
	within(t, time.Minute, func(ctx context.Context) error {
		return s.world.Manufacturer.Vouchers(ctx, manifest, s.world.Site.OwnerCA())
	})
	within(t, time.Minute, func(ctx context.Context) error {
		if _, err := s.world.Site.Admin(ctx, "reference", "import", image.Reference()); err != nil {
			return err
		}
		if _, err := s.world.Site.Admin(ctx, "manifest", "import", manifest); err != nil {
			return err
		}
		return s.world.Site.Configure(ctx, id, "line.user="+strings.ToLower(id))
	})
	if err := p.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *spine) plantedListener(t *testing.T, p *lab.Phone) {
	expect(t, p, bootLimit, `stage name=registered\b`)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	address, err := p.Address(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		command string
		open    []int
	}{
		{"nofilter", nil},
		{"plant 4444", []int{4444}},
	} {
		if err := p.Lab(ctx, step.command, nil); err != nil {
			t.Fatal(err)
		}
		var sockets []report.Socket
		if err := p.Lab(ctx, "sockets", &sockets); err != nil {
			t.Fatal(err)
		}
		if bad := lab.UnexpectedSockets(sockets, false); len(bad) != len(step.open) {
			t.Errorf("after %q the socket table has %v outside the allow-table, want %d", step.command, bad, len(step.open))
		}
		open, err := lab.ScanTCP(ctx, address)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(open, step.open) {
			t.Errorf("after %q the scan finds %v open, want %v", step.command, open, step.open)
		}
	}
}

func (s *spine) radioAppears(t *testing.T, p *lab.Phone) {
	within(t, time.Minute, func(ctx context.Context) error { return s.world.Site.WaitState(ctx, p.ID, "trusted") })
	within(t, time.Minute, func(ctx context.Context) error { return p.Lab(ctx, "vhci", nil) })
	expect(t, p, time.Minute, `ringfence init: radio found [^\r\n]*bluetooth`)
	s.refusedFor(t, p, "bluetooth")
	expect(t, p, time.Minute, `ringfence call: line stopped`)
	s.radiosBlocked(t, p)
}

// radiosBlocked asks the kernel: every radio that is left is blocked, and no
// interface stands on one.
func (s *spine) radiosBlocked(t *testing.T, p *lab.Phone) {
	t.Helper()
	blocks := map[string]string{}
	within(t, time.Minute, func(ctx context.Context) error { return p.Lab(ctx, "rfkill", &blocks) })
	if len(blocks) == 0 {
		t.Error("the kernel knows no radio switch: this test image proves nothing")
	}
	for name, soft := range blocks {
		if soft != "1" {
			t.Errorf("radio %s has soft block %q, want 1", name, soft)
		}
	}
	flags := map[string]string{}
	within(t, time.Minute, func(ctx context.Context) error { return p.Lab(ctx, "interfaces", &flags) })
	for name, text := range flags {
		value, err := strconv.ParseUint(text, 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		// hwsim0 is the simulator's own monitor: it stands on no radio and cannot be deleted.
		if name != "lo" && name != "eth0" && (name != "hwsim0" || value&unix.IFF_UP != 0) {
			t.Errorf("interface %s (flags %s) of a radio is still there", name, text)
		}
	}
}

func (s *spine) radioAtBoot(t *testing.T, p *lab.Phone) {
	expect(t, p, bootLimit, `ringfence init: radio found [^\r\n]*phy0`)
	s.refusedFor(t, p, "wlan:phy0")
	s.radiosBlocked(t, p)
	if strings.Contains(p.Machine.Console().Text(), "stage name=registered") {
		t.Error("a phone with a radio registered")
	}
}

func (s *spine) refusedFor(t *testing.T, p *lab.Phone, word string) {
	t.Helper()
	within(t, bootLimit, func(ctx context.Context) error { return s.world.Site.WaitState(ctx, p.ID, "refused") })
	d, err := s.world.Site.Device(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.Reason, "radio") || !strings.Contains(d.Reason, word) {
		t.Errorf("refused for %q, want the radio %q named", d.Reason, word)
	}
}
