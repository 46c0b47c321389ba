package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Layout of the variable store of AAVMF (EDK II ArmVirtQemu: two flash banks
// of 64 MiB; PcdFlashNvStorage*): variables, fault-tolerant working block,
// spare.
const (
	varsFileSize   = 64 << 20
	varsRegion     = 0x40000
	volumeHeader   = 0x48
	variableState  = 0x3f // VAR_ADDED
	variableHeader = 60   // AUTHENTICATED_VARIABLE_HEADER
)

// Attributes of UEFI variables (UEFI 2.9, 8.2).
const (
	attrNV        = 1
	attrBoot      = 2
	attrRuntime   = 4
	attrTimeAuth  = 0x20
	attrBootOnly  = attrNV | attrBoot
	attrAll       = attrNV | attrBoot | attrRuntime
	attrSignature = attrAll | attrTimeAuth
)

type variable struct {
	name       string
	vendor     string // GUID
	attributes uint32
	data       []byte
}

// SecureBootCertificates are the public halves (DER) of a manufacturer's
// Secure Boot keys.
type SecureBootCertificates struct {
	PK, KEK, DB []byte
}

func (c SecureBootCertificates) check() error {
	if len(c.PK) == 0 || len(c.KEK) == 0 || len(c.DB) == 0 {
		return errors.New("secure boot needs the PK, KEK and db certificates")
	}
	return nil
}

// VariableStore returns the content of the AAVMF variable flash of a phone:
// Secure Boot enforced with c and the two boot slots of [FlashDisk]'s ESP.
func VariableStore(c SecureBootCertificates) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	flash := make([]byte, varsFileSize)
	for i := range flash[:3*varsRegion] {
		flash[i] = 0xff
	}
	copy(flash, volumeHeaders())
	copy(flash[varsRegion:], workingBlock())
	at := volumeHeader + 28
	for _, v := range storeVariables(c) {
		record := encodeVariable(v)
		if at+len(record) > varsRegion {
			return nil, fmt.Errorf("variable store: no room for %s", v.name)
		}
		copy(flash[at:], record)
		at = (at + len(record) + 3) &^ 3
	}
	return flash, nil
}

func storeVariables(c SecureBootCertificates) []variable {
	order := binary.LittleEndian.AppendUint16(nil, SlotA.number())
	order = binary.LittleEndian.AppendUint16(order, SlotB.number())
	list := []variable{
		{"PK", guidGlobal, attrSignature, signatureList(c.PK)},
		{"KEK", guidGlobal, attrSignature, signatureList(c.KEK)},
		{"db", guidSecurityDatabase, attrSignature, signatureList(c.DB)},
		{"SecureBootEnable", guidSecureBootEnable, attrBootOnly, []byte{1}},
		{"BootOrder", guidGlobal, attrAll, order},
	}
	for _, s := range []Slot{SlotA, SlotB} {
		list = append(list, variable{bootName(s.number()), guidGlobal, attrAll, loadOption(s.description(), devicePath(espPartition(), s.File()))})
	}
	return list
}

// encodeVariable is AUTHENTICATED_VARIABLE_HEADER, name and data (EDK II
// MdeModulePkg/Include/Guid/VariableFormat.h).
func encodeVariable(v variable) []byte {
	le := binary.LittleEndian
	name, vendor := ucs2z(v.name), newGUID(v.vendor)
	out := []byte{0xaa, 0x55, variableState, 0}
	out = le.AppendUint32(out, v.attributes)
	out = le.AppendUint64(out, 0) // monotonic count
	stamp := make([]byte, 16)
	if v.attributes&attrTimeAuth != 0 {
		le.PutUint16(stamp, 2024) // EFI_TIME 2024-01-01 00:00:00: a later signed update must be newer
		stamp[2], stamp[3] = 1, 1
	}
	out = append(out, stamp...)
	out = le.AppendUint32(out, 0) // public key index
	out = le.AppendUint32(out, uint32(len(name)))
	out = le.AppendUint32(out, uint32(len(v.data)))
	out = append(out, vendor[:]...)
	out = append(out, name...)
	return append(out, v.data...)
}

// volumeHeaders is EFI_FIRMWARE_VOLUME_HEADER (PI 1.7 volume 3, 3.2.1) and
// VARIABLE_STORE_HEADER.
func volumeHeaders() []byte {
	le := binary.LittleEndian
	kind, store := newGUID(guidVolume), newGUID(guidAuthVariables)
	out := make([]byte, 16)
	out = append(out, kind[:]...)
	out = le.AppendUint64(out, 3*varsRegion)
	out = append(out, "_FVH"...)
	out = le.AppendUint32(out, 0xe36) // attributes
	out = le.AppendUint16(out, volumeHeader)
	out = append(out, 0, 0, 0, 0, 0, 2)                 // checksum, extended header, reserved, revision
	out = le.AppendUint32(out, varsFileSize/varsRegion) // block map: all of the flash
	out = le.AppendUint32(out, varsRegion)
	out = append(out, 0, 0, 0, 0, 0, 0, 0, 0) // end of the block map
	var sum uint16
	for i := 0; i < len(out); i += 2 {
		sum += le.Uint16(out[i:])
	}
	le.PutUint16(out[50:], -sum)
	out = append(out, store[:]...)
	out = le.AppendUint32(out, varsRegion-volumeHeader)
	return append(out, 0x5a, 0xfe, 0, 0, 0, 0, 0, 0) // formatted, healthy
}

// workingBlock is EFI_FAULT_TOLERANT_WORKING_BLOCK_HEADER. Its checksum is
// taken with the checksum and state fields erased.
func workingBlock() []byte {
	le := binary.LittleEndian
	kind := newGUID(guidWorkingBlock)
	out := append([]byte{}, kind[:]...)
	out = append(out, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	out = le.AppendUint64(out, varsRegion-32)
	le.PutUint32(out[16:], crc32.ChecksumIEEE(out))
	out[20] = 0xfe // WorkingBlockValid
	return out
}
