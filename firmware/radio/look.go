// Package radio keeps radios off and proves it: it looks for them where the
// kernel would show them, blocks them, deletes their interfaces, and tells of
// every new one. It knows one policy, off. Hardware without a driver is
// invisible to it; that is the board's and the kernel's part.
//
// Sources: Linux Documentation/driver-api/rfkill.rst, include/uapi/linux/nl80211.h.
package radio

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ringfence/provisioning/wire/evidence"
)

// Look returns what there is under root ("/" on the phone) in the places of
// [evidence.RadioPlaces].
func Look(root string) (evidence.RadioFinding, error) {
	f := evidence.CleanRadio()
	for _, place := range f.Looked {
		paths, err := filepath.Glob(filepath.Join(root, place))
		if err != nil {
			return f, fmt.Errorf("look at %s: %w", place, err)
		}
		for _, p := range paths {
			f.Found = append(f.Found, name(p))
		}
	}
	slices.Sort(f.Found)
	f.Found = slices.Compact(f.Found)
	return f, nil
}

// name describes a radio by its sysfs path, such as
// "wlan:phy0 (mac80211_hwsim)" or "bluetooth:hci0".
func name(path string) string {
	class, device := filepath.Base(filepath.Dir(path)), filepath.Base(path)
	switch {
	case device == "phy80211" || device == "wireless": // net/<interface>/phy80211
		return "wlan:" + class
	case class == "ieee80211":
		if d := driver(path); d != "" {
			return fmt.Sprintf("wlan:%s (%s)", device, d)
		}
		return "wlan:" + device
	case class == "rfkill":
		kind, _ := os.ReadFile(filepath.Join(path, "type")) // gone again: the name is enough
		label, _ := os.ReadFile(filepath.Join(path, "name"))
		return fmt.Sprintf("rfkill:%s (%s %s)", device, clean(kind), clean(label))
	case class == "lirc" || class == "rc":
		return "infrared:" + device
	}
	return class + ":" + device
}

func driver(path string) string {
	for _, link := range []string{"device/driver", "device/device/driver"} {
		if target, err := os.Readlink(filepath.Join(path, link)); err == nil {
			return filepath.Base(target)
		}
	}
	return ""
}

// clean makes one short word of what a driver wrote.
func clean(raw []byte) string {
	s := strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f && r != '"' && r != '\\' {
			return r
		}
		return -1
	}, string(raw))
	return s[:min(len(s), 32)]
}
