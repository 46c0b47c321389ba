package appraisetest

import (
	"crypto/sha256"
	"encoding/binary"
	"unicode/utf16"

	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/release"
)

// Boot is what the scripted firmware measures.
type Boot struct {
	Kernel, Initramfs, CommandLine, DeviceTree string
	SecureBoot                                 bool
	BootFile                                   string   // of Boot00A0
	Extra                                      string   // one more event in PCR 5, when not empty
	Radio                                      string   // found at boot, when not empty
	Files                                      []string // contents of files that IMA measures
}

// Good is the boot of the release that [Reference] describes.
func Good() Boot {
	return Boot{Kernel: "kernel 1", Initramfs: "initramfs 1", CommandLine: "quiet", DeviceTree: "tree",
		SecureBoot: true, BootFile: `\EFI\phone\a.efi`, Files: []string{"the phone binary"}}
}

// Events is the firmware's event log of b.
func (b Boot) Events() []evidence.Event {
	secure := byte(0)
	if b.SecureBoot {
		secure = 1
	}
	events := []evidence.Event{
		whole(0, 0x00000008, []byte("1.0\x00")),
		whole(7, evidence.EventVariableDriver, variable("SecureBoot", []byte{secure})),
		data(1, evidence.EventVariableBoot, variable("BootOrder", []byte{0xa0, 0}), []byte{0xa0, 0}),
		data(1, evidence.EventVariableBoot, variable("Boot00A0", loadOption(b.BootFile)), loadOption(b.BootFile)),
	}
	for pcr := range 8 {
		events = append(events, whole(pcr, evidence.EventSeparator, []byte{0, 0, 0, 0}))
	}
	events = append(events, data(4, evidence.EventBootApplication, []byte("uki"), []byte(b.Kernel+b.Initramfs+b.CommandLine)))
	for _, s := range b.sections() {
		events = append(events, data(11, evidence.EventIPL, text16(s[0]), []byte(s[0]+"\x00")), data(11, evidence.EventIPL, text16(s[0]), []byte(s[1])))
	}
	events = append(events, data(9, 6, []byte("LOADED_IMAGE::LoadOptions"), text16(b.CommandLine)), data(9, 6, []byte("Linux initrd"), []byte(b.Initramfs)))
	if b.Extra != "" {
		events = append(events, whole(5, evidence.EventAction, []byte(b.Extra)))
	}
	return append(events, whole(5, evidence.EventAction, []byte("Exit Boot Services Invocation")))
}

func (b Boot) sections() [][2]string {
	return [][2]string{{".linux", b.Kernel}, {".osrel", "os"}, {".cmdline", b.CommandLine}, {".initrd", b.Initramfs}}
}

// Reference is what a signed release says about b.
func Reference(b Boot, version string) *release.Reference {
	values := make(map[int]evidence.Digest)
	for _, ev := range b.Events() {
		values[ev.PCR] = values[ev.PCR].Extend(ev.Digest)
	}
	tree := evidence.Digest(sha256.Sum256([]byte(b.DeviceTree)))
	values[evidence.PCRDeviceTree] = evidence.Digest{}.Extend(sha256.Sum256(tree[:]))
	values[evidence.PCRRadio] = evidence.Digest{}.Extend(sha256.Sum256(evidence.CleanRadio().Canonical()))
	ref := &release.Reference{Schema: 1, Release: version, Model: "virt64", PCRs: make(map[int]evidence.Digest),
		BootEntry: []string{`\EFI\phone\a.efi`, `\EFI\phone\b.efi`}}
	for _, i := range release.ExactPCRs {
		ref.PCRs[i] = values[i]
	}
	names := map[string]string{".linux": "kernel", ".osrel": "os-release", ".cmdline": "command line", ".initrd": "initramfs"}
	for _, s := range b.sections() {
		ref.Components = append(ref.Components, release.Component{Name: names[s[0]], Section: s[0], SHA256: sha256.Sum256([]byte(s[1]))})
	}
	ref.Components = append(ref.Components, release.Component{Name: "device tree", SHA256: tree})
	for _, f := range b.Files {
		ref.Executable = append(ref.Executable, sha256.Sum256([]byte(f)))
	}
	return ref
}

// EncodeLog writes events as a crypto-agile log with one SHA-256 bank.
func EncodeLog(events []evidence.Event) []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0)
	log := le.AppendUint32(nil, 0)
	log = le.AppendUint32(log, evidence.EventNoAction)
	log = append(log, make([]byte, 20)...)
	log = append(le.AppendUint32(log, uint32(len(spec))), spec...)
	for _, ev := range events {
		log = le.AppendUint32(log, uint32(ev.PCR))
		log = le.AppendUint32(log, ev.Type)
		log = append(le.AppendUint32(log, 1), 0x0b, 0)
		log = append(log, ev.Digest[:]...)
		log = append(le.AppendUint32(log, uint32(len(ev.Data))), ev.Data...)
	}
	return log
}

// EncodeIMA writes one ima-ng entry and returns what it extends PCR 10 with.
func EncodeIMA(m evidence.Measurement) ([]byte, evidence.Digest) {
	le := binary.LittleEndian
	hashed := append([]byte("sha256:\x00"), m.SHA256[:]...)
	body := append(le.AppendUint32(nil, uint32(len(hashed))), hashed...)
	body = le.AppendUint32(body, uint32(len(m.Path)+1))
	body = append(append(body, m.Path...), 0)
	entry := le.AppendUint32(nil, evidence.PCRIMA)
	entry = append(entry, "twenty bytes of SHA1"...)
	entry = append(le.AppendUint32(entry, 6), "ima-ng"...)
	return append(le.AppendUint32(entry, uint32(len(body))), body...), sha256.Sum256(body)
}

// BootAggregateOf is IMA's first entry over the firmware's registers.
func BootAggregateOf(values map[int]evidence.Digest) evidence.Measurement {
	h := sha256.New()
	for i := range 10 {
		value := values[i]
		h.Write(value[:])
	}
	return evidence.Measurement{Path: evidence.BootAggregate, SHA256: evidence.Digest(h.Sum(nil))}
}

func whole(pcr int, kind uint32, content []byte) evidence.Event {
	return data(pcr, kind, content, content)
}

func data(pcr int, kind uint32, shown, hashed []byte) evidence.Event {
	return evidence.Event{PCR: pcr, Type: kind, Digest: sha256.Sum256(hashed), Data: shown}
}

func variable(name string, value []byte) []byte {
	raw := make([]byte, 16)
	raw = binary.LittleEndian.AppendUint64(raw, uint64(len(name)))
	raw = binary.LittleEndian.AppendUint64(raw, uint64(len(value)))
	return append(append(raw, text16(name)...), value...)
}

func loadOption(file string) []byte {
	path := append(text16(file), 0, 0)
	node := append([]byte{4, 4, byte(len(path) + 4), 0}, path...)
	node = append(node, 0x7f, 0xff, 4, 0)
	raw := append([]byte{1, 0, 0, 0, byte(len(node)), 0}, append(text16("slot"), 0, 0)...)
	return append(raw, node...)
}

func text16(s string) []byte {
	var raw []byte
	for _, u := range utf16.Encode([]rune(s)) {
		raw = binary.LittleEndian.AppendUint16(raw, u)
	}
	return raw
}
