package radio

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"ringfence/provisioning/wire/evidence"
)

func plant(t *testing.T, root string, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLook(t *testing.T) {
	tests := []struct {
		name string
		dirs []string
		want []string
	}{
		{"wired only", []string{"sys/class/net/eth0/queues", "sys/class/bluetooth"}, []string{}},
		{"wlan", []string{"sys/class/ieee80211/phy0", "sys/class/net/wlan0/phy80211", "sys/class/net/wlan0/wireless"}, []string{"wlan:phy0", "wlan:wlan0"}},
		{"bluetooth", []string{"sys/class/bluetooth/hci0"}, []string{"bluetooth:hci0"}},
		{"rfkill alone", []string{"sys/class/rfkill/rfkill3"}, []string{"rfkill:rfkill3 ( )"}},
		{"nfc and infrared", []string{"sys/class/nfc/nfc0", "sys/class/rc/rc0", "sys/class/lirc/lirc0"}, []string{"infrared:lirc0", "infrared:rc0", "nfc:nfc0"}},
	}
	for _, tt := range tests {
		root := t.TempDir()
		plant(t, root, tt.dirs...)
		f, err := Look(root)
		if err != nil || !reflect.DeepEqual(f.Found, tt.want) || !reflect.DeepEqual(f.Looked, evidence.RadioPlaces()) {
			t.Errorf("%s: Look = %q, %v, want %q", tt.name, f.Found, err, tt.want)
		}
	}
}

func TestLookNamesDriver(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "sys/class/ieee80211/phy0/device", "sys/bus/platform/drivers/mac80211_hwsim")
	if err := os.Symlink(filepath.Join(root, "sys/bus/platform/drivers/mac80211_hwsim"), filepath.Join(root, "sys/class/ieee80211/phy0/device/driver")); err != nil {
		t.Fatal(err)
	}
	f, _ := Look(root)
	if want := []string{"wlan:phy0 (mac80211_hwsim)"}; !reflect.DeepEqual(f.Found, want) {
		t.Errorf("Look = %q, want %q", f.Found, want)
	}
}

type blocker struct {
	mu    sync.Mutex
	calls int
	err   error
}

func (b *blocker) BlockAll() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	return b.err
}

func TestUnbind(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "sys/class/nfc/nfc0", "sys/devices/nfc-chip/driver")
	control := filepath.Join(root, "sys/devices/nfc-chip/driver/unbind")
	if err := errors.Join(os.WriteFile(control, nil, 0o600),
		os.Symlink(filepath.Join(root, "sys/devices/nfc-chip"), filepath.Join(root, "sys/class/nfc/nfc0/device"))); err != nil {
		t.Fatal(err)
	}
	if err := unbind(filepath.Join(root, "sys/class/nfc/*")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(control); string(got) != "nfc-chip" {
		t.Errorf("unbind wrote %q, want nfc-chip", got)
	}
}

func TestWatchTellsOfNewRadio(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "sys/class/nfc")
	told := make(chan evidence.RadioFinding, 10)
	b := &blocker{err: errors.New("will not")}
	errs := make(chan error, 10)
	done := make(chan error, 1)
	go func() {
		done <- Watch(t.Context(), WatchConfig{Root: root, Blocker: b, Every: 20 * time.Millisecond, Known: evidence.CleanRadio(),
			Found: func(f evidence.RadioFinding, err error) { told <- f; errs <- err }})
	}()
	plant(t, root, "sys/class/nfc/nfc0")
	select {
	case f := <-told:
		if want := []string{"nfc:nfc0"}; !reflect.DeepEqual(f.Found, want) {
			t.Errorf("told %q, want %q", f.Found, want)
		}
		if err := <-errs; !errors.Is(err, b.err) {
			t.Errorf("error %v, want that of the blocker", err)
		}
	case err := <-done:
		t.Fatalf("Watch ended: %v", err)
	case <-time.After(5 * time.Second):
		t.Fatal("a new radio was not told within 5 s")
	}
	time.Sleep(100 * time.Millisecond)
	if len(told) != 0 {
		t.Errorf("the same radio was told again")
	}
}

func TestAboutRadio(t *testing.T) {
	for event, want := range map[string]bool{
		"add@/devices/virtual/bluetooth/hci0\x00ACTION=add\x00SUBSYSTEM=bluetooth\x00": true,
		"add@/devices/virtual/net/wlan0\x00SUBSYSTEM=net\x00":                          true,
		"change@/devices/x\x00SUBSYSTEM=sound\x00":                                     false,
		"": false,
	} {
		if got := aboutRadio([]byte(event)); got != want {
			t.Errorf("aboutRadio(%q) = %v, want %v", event, got, want)
		}
	}
}
