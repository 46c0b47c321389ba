package image

import (
	"bytes"
	"fmt"
)

// Alter returns an unsigned UKI with one bit of a component changed at a place
// where the phone still boots: an attacker's image for tests, whose only fault
// is that nobody released it. Components: "kernel" (padding at its end),
// "initramfs" (the time stamp of a folder) and "command line" (the seconds of
// "panic=5").
func Alter(uki []byte, component string) ([]byte, error) {
	f, err := parsePE(uki)
	if err != nil {
		return nil, err
	}
	if f.u32(optCertificates+4) != 0 {
		return nil, fmt.Errorf("alter %s: the image is signed; give the unsigned one", component)
	}
	out := bytes.Clone(uki)
	section := map[string]string{"kernel": ".linux", "initramfs": ".initrd", "command line": ".cmdline"}[component]
	if section == "" {
		return nil, fmt.Errorf("alter %q: want kernel, initramfs or command line", component)
	}
	data, err := FindSection(out, section)
	if err != nil {
		return nil, err
	}
	at, err := harmless(component, data)
	if err != nil {
		return nil, err
	}
	data[at] ^= 1
	return out, nil
}

func harmless(component string, data []byte) (int, error) {
	switch component {
	case "initramfs":
		return 6 + 8*5 + 7, nil // last digit of the first entry's c_mtime
	case "command line":
		if at := bytes.Index(data, []byte("panic=5")); at >= 0 {
			return at + len("panic="), nil
		}
	case "kernel":
		if bytes.HasSuffix(data, make([]byte, 16)) {
			return len(data) - 1, nil
		}
	}
	return 0, fmt.Errorf("alter %s: no harmless place in it", component)
}
