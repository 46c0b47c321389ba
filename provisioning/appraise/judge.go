package appraise

import (
	"crypto/sha256"
	"strings"

	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/release"
)

// pcrName says in words what a register holds.
func pcrName(pcr int) string {
	switch pcr {
	case 0:
		return "firmware code"
	case 2, 3:
		return "option ROMs"
	case 4:
		return "boot application"
	case 6:
		return "platform events"
	case 7:
		return "Secure Boot state and keys"
	case 9:
		return "command line and initramfs as the kernel saw them"
	case 11:
		return "parts of the image"
	case evidence.PCRDeviceTree:
		return "device tree"
	case evidence.PCRRadio:
		return "radio findings"
	}
	return "register"
}

// measurements compares the fixed registers with the reference. Differences
// are named by component first; a register that no named component explains is
// named by itself.
func (v *Verdict) measurements(ref *release.Reference, values map[int]evidence.Digest, events []evidence.Event, state *evidence.PhoneState) {
	explained := make(map[int]bool)
	for _, radio := range state.Found() {
		v.refuse("radio found: %s", radio)
		explained[evidence.PCRRadio] = true
	}
	if values[11] != ref.PCRs[11] && v.components(ref, sections(ref, events)) {
		explained[4], explained[9], explained[11] = true, true, true
	}
	for _, c := range ref.Components {
		if c.Section == "" && c.SHA256 != state.DeviceTree && values[evidence.PCRDeviceTree] != ref.PCRs[evidence.PCRDeviceTree] {
			v.refuse("%s differs: measured %s, release %s has %s", c.Name, state.DeviceTree, ref.Release, c.SHA256)
			explained[evidence.PCRDeviceTree] = true
		}
	}
	for _, i := range release.ExactPCRs {
		if values[i] != ref.PCRs[i] && !explained[i] {
			v.refuse("PCR %d (%s) differs: measured %s, release %s has %s", i, pcrName(i), values[i], ref.Release, ref.PCRs[i])
		}
	}
}

// components names each part of the image that differs; it reports whether it
// named any.
func (v *Verdict) components(ref *release.Reference, measured map[string]evidence.Digest) bool {
	named := false
	for _, c := range ref.Components {
		got, ok := measured[c.Section]
		switch {
		case c.Section == "" || ok && got == c.SHA256:
			continue
		case !ok:
			v.refuse("%s was not measured, release %s has %s", c.Name, ref.Release, c.SHA256)
		default:
			v.refuse("%s differs: measured %s, release %s has %s", c.Name, got, ref.Release, c.SHA256)
		}
		named = true
	}
	return named
}

// sections reads systemd-stub's events of PCR 11: for each PE section the
// digest of its NUL-terminated name, then the digest of its content. Only the
// digests are believed, not the description in the event.
func sections(ref *release.Reference, events []evidence.Event) map[string]evidence.Digest {
	names := make(map[evidence.Digest]string)
	for _, c := range ref.Components {
		if c.Section != "" {
			names[sha256.Sum256([]byte(c.Section+"\x00"))] = c.Section
		}
	}
	measured := make(map[string]evidence.Digest)
	name := ""
	for _, ev := range events {
		if ev.PCR != 11 {
			continue
		}
		if name != "" {
			measured[name], name = ev.Digest, ""
			continue
		}
		name = names[ev.Digest]
	}
	return measured
}

// policy judges the registers that change with boot order and slots.
func (v *Verdict) policy(ref *release.Reference, events []evidence.Event) {
	secure := false
	for _, ev := range events {
		switch ev.PCR {
		case 1:
			v.bootVariable(ref, ev)
		case 5:
			v.bootEvent(ev)
		case 7:
			if name, value, ok := variable(ev); ok && name == "SecureBoot" {
				secure = len(value) == 1 && value[0] == 1
			}
		}
	}
	if !secure {
		v.refuse("Secure Boot is off")
	}
}

func (v *Verdict) bootVariable(ref *release.Reference, ev evidence.Event) {
	if ev.Type != evidence.EventVariableBoot && ev.Type != evidence.EventVariableBoot2 {
		return
	}
	name, value, ok := variable(ev)
	if !ok {
		v.refuse("boot variable event does not match its digest")
		return
	}
	if !isLoadOption(name) {
		return // BootOrder and the like: an order, not a file
	}
	path, err := loadOptionPath(value)
	if err != nil {
		v.refuse("%s: %v", name, err)
		return
	}
	if path == "" {
		return // the firmware's own entry: names no file; PCR 4 shows what was started
	}
	for _, allowed := range ref.BootEntry {
		if strings.EqualFold(path, allowed) {
			return
		}
	}
	v.refuse("%s starts %q, release %s allows %q", name, path, ref.Release, ref.BootEntry)
}

// isLoadOption: Boot#### with four hexadecimal digits (UEFI 2.10, 3.1.3).
func isLoadOption(name string) bool {
	digits, ok := strings.CutPrefix(name, "Boot")
	return ok && len(digits) == 4 && strings.Trim(digits, "0123456789ABCDEFabcdef") == ""
}

// bootEvent: a phone shows its separator, the partition table and leaving the
// boot services, nothing else.
func (v *Verdict) bootEvent(ev evidence.Event) {
	switch ev.Type {
	case evidence.EventSeparator, evidence.EventGPT:
		return
	case evidence.EventAction:
		if text := string(ev.Data); ev.DataMatches() && strings.HasPrefix(text, "Exit Boot Services ") {
			return
		}
	}
	v.refuse("PCR 5: unexpected event of type %#x", ev.Type)
}

// ima judges what the kernel ran: only files of the release, after a boot
// aggregate of exactly the quoted registers.
func (v *Verdict) ima(ref *release.Reference, list []byte, values map[int]evidence.Digest) {
	measured, err := evidence.VerifyIMA(list, values[evidence.PCRIMA])
	if err != nil {
		v.refuse("IMA: %v", err)
		return
	}
	h := sha256.New()
	for i := range 10 { // PCR 8 belongs to GRUB, which does not exist here: zero
		value := values[i]
		h.Write(value[:])
	}
	if want := evidence.Digest(h.Sum(nil)); measured[0].SHA256 != want {
		v.refuse("IMA: boot aggregate %s, the quoted registers give %s", measured[0].SHA256, want)
	}
	known := make(map[evidence.Digest]bool, len(ref.Executable))
	for _, d := range ref.Executable {
		known[d] = true
	}
	for _, m := range measured[1:] {
		if !known[m.SHA256] {
			v.refuse("IMA: %q (%s) is not part of release %s", m.Path, m.SHA256, ref.Release)
		}
	}
}
