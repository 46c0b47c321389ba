package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"ringfence/firmware/measure"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/release"
)

// measuredVolume is where AAVMF's code volume lies in its flash (EDK II
// ArmVirtQemu.fdf, FVMAIN_COMPACT).
const measuredVolume = 0x1000

// Measured is all that decides the registers of a phone.
type Measured struct {
	Firmware   []byte // the UEFI firmware's flash image
	SecureBoot SecureBootCertificates
	Signed     []byte // signed UKI
	Tree       []byte // device tree as the kernel sees it
	Init       []byte // the binary that is PID 1
	Board      string
	Release    string
}

// Reference computes what a phone that boots m from either slot must show.
func Reference(m Measured) (*release.Reference, error) {
	pcrs, err := m.registers()
	if err != nil {
		return nil, err
	}
	tree, err := measure.DeviceTree(m.Tree)
	if err != nil {
		return nil, err
	}
	r := &release.Reference{
		Schema: 1, Release: m.Release, Model: device.Model(m.Board), Image: sha256.Sum256(m.Signed), PCRs: pcrs,
		BootEntry: []string{SlotA.File(), SlotB.File()}, Executable: []evidence.Digest{sha256.Sum256(m.Init)},
	}
	for _, part := range [...][2]string{{"kernel", ".linux"}, {"initramfs", ".initrd"}, {"command line", ".cmdline"}, {"os-release", ".osrel"}} {
		data, err := FindSection(m.Signed, part[1])
		if err != nil {
			return nil, err
		}
		r.Components = append(r.Components, release.Component{Name: part[0], Section: part[1], SHA256: sha256.Sum256(data)})
	}
	r.Components = append(r.Components, release.Component{Name: "device tree", SHA256: tree})
	return r, r.Validate()
}

func (m Measured) registers() (map[int]evidence.Digest, error) {
	firmware, err := firmwareRegister(m.Firmware)
	if err != nil {
		return nil, err
	}
	application, err := Authenticode(m.Signed)
	if err != nil {
		return nil, err
	}
	if err := m.SecureBoot.check(); err != nil {
		return nil, err
	}
	nine, eleven, err := imageRegisters(m.Signed)
	if err != nil {
		return nil, err
	}
	tree, err := measure.DeviceTree(m.Tree)
	if err != nil {
		return nil, err
	}
	quiet := extend(separator()) // drivers and their settings: there are none
	return map[int]evidence.Digest{
		0: firmware, 2: quiet, 3: quiet, 6: quiet,
		// TCG PFP 1.05, 3.3.4.5: the attempt, the separator, the image.
		4:                      extend(sha256.Sum256([]byte("Calling EFI Application from Boot Option")), separator(), application),
		7:                      secureBootRegister(m.SecureBoot),
		9:                      nine,
		11:                     eleven,
		evidence.PCRDeviceTree: extend(sha256.Sum256(tree[:])),
		evidence.PCRRadio:      extend(sha256.Sum256(evidence.CleanRadio().Canonical())),
	}, nil
}

// extend is the value of a register after events.
func extend(events ...[32]byte) evidence.Digest {
	var pcr evidence.Digest
	for _, e := range events {
		pcr = pcr.Extend(e)
	}
	return pcr
}

// separator is the digest of EV_SEPARATOR (TCG PFP 1.05, 10.4.1).
func separator() [32]byte { return sha256.Sum256([]byte{0, 0, 0, 0}) }

// firmwareRegister is PCR 0: an empty EV_S_CRTM_VERSION (Debian's build states
// none), the code volume, the separator.
func firmwareRegister(code []byte) (evidence.Digest, error) {
	if len(code) < measuredVolume+0x30 || string(code[measuredVolume+40:measuredVolume+44]) != "_FVH" {
		return evidence.Digest{}, errors.New("UEFI firmware: no code volume where AAVMF has it")
	}
	size := binary.LittleEndian.Uint64(code[measuredVolume+32:])
	if size > uint64(len(code)-measuredVolume) {
		return evidence.Digest{}, fmt.Errorf("UEFI firmware: code volume of %d bytes in a file of %d", size, len(code))
	}
	volume := code[measuredVolume:][:size]
	return extend(sha256.Sum256(ucs2z("")), sha256.Sum256(volume), separator()), nil
}

// secureBootRegister is PCR 7 (TCG PFP 1.05, 3.3.4.8): policy, separator,
// and the certificate that authenticated the image.
func secureBootRegister(c SecureBootCertificates) evidence.Digest {
	return extend(
		variableEvent(guidGlobal, "SecureBoot", []byte{1}),
		variableEvent(guidGlobal, "PK", signatureList(c.PK)),
		variableEvent(guidGlobal, "KEK", signatureList(c.KEK)),
		variableEvent(guidSecurityDatabase, "db", signatureList(c.DB)),
		variableEvent(guidSecurityDatabase, "dbx", nil),
		separator(),
		variableEvent(guidSecurityDatabase, "db", signatureData(c.DB)),
	)
}

// variableEvent is the digest of UEFI_VARIABLE_DATA (TCG PFP 1.05, 10.2.6).
func variableEvent(vendor, name string, data []byte) [32]byte {
	id, text := newGUID(vendor), ucs2(name)
	event := bytes.Clone(id[:])
	event = binary.LittleEndian.AppendUint64(event, uint64(len(text)/2))
	event = binary.LittleEndian.AppendUint64(event, uint64(len(data)))
	event = append(event, text...)
	return sha256.Sum256(append(event, data...))
}

// imageRegisters are PCR 9, by the kernel's EFI stub (command line as CHAR16,
// initramfs), and PCR 11, by systemd-stub (name and content of each section).
func imageRegisters(uki []byte) (nine, eleven evidence.Digest, err error) {
	sections := map[string][]byte{}
	for _, name := range ukiSections {
		data, err := FindSection(uki, name)
		if err != nil {
			return nine, eleven, err
		}
		sections[name] = data
		eleven = eleven.Extend(sha256.Sum256([]byte(name + "\x00"))).Extend(sha256.Sum256(data))
	}
	line := string(bytes.TrimSuffix(sections[".cmdline"], []byte{0}))
	nine = extend(sha256.Sum256(ucs2z(line)), sha256.Sum256(sections[".initrd"]))
	return nine, eleven, nil
}

func readFirmware() ([]byte, error) {
	code, err := os.ReadFile(FirmwareCode)
	if err != nil {
		return nil, fmt.Errorf("UEFI firmware: %w (apt-get install qemu-efi-aarch64)", err)
	}
	return code, nil
}
