package image

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf16"
)

// guid is an EFI_GUID in its memory form: the first three fields are little
// endian (UEFI 2.9 appendix A).
type guid [16]byte

// GUIDs of UEFI 2.9 sections 3.3, 32.4 and 32.6, and of EDK II.
const (
	guidGlobal           = "8be4df61-93ca-11d2-aa0d-00e098032b8c" // EFI_GLOBAL_VARIABLE
	guidSecurityDatabase = "d719b2cb-3d3a-4596-a3bc-dad00e67656f" // db, dbx
	guidCertX509         = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072" // EFI_CERT_X509_GUID
	guidSecureBootEnable = "f0a30bc7-af08-4556-99c4-001009c93a44" // EDK II SecureBootEnableDisable
	guidAuthVariables    = "aaf32c78-947b-439a-a180-2e144ec37792" // EDK II gEfiAuthenticatedVariableGuid
	guidVolume           = "fff12b8d-7696-4c8b-a985-2747075b4f50" // EDK II gEfiSystemNvDataFvGuid
	guidWorkingBlock     = "9e58292b-7c68-497d-a0ce-6500fd9f1b95" // EDK II gEdkiiWorkingBlockSignatureGuid
	// guidOwner is the SignatureOwner of every certificate that Ringfence enrols.
	guidOwner = "b1ab7f6e-8d3a-4c7e-9d5e-52494e474645"
)

// newGUID converts the text form of a constant of this package.
func newGUID(text string) guid {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != 16 {
		panic("image: malformed GUID constant " + text)
	}
	for _, field := range [][]byte{raw[0:4], raw[4:6], raw[6:8]} {
		for i, j := 0, len(field)-1; i < j; i, j = i+1, j-1 {
			field[i], field[j] = field[j], field[i]
		}
	}
	return guid(raw)
}

// ucs2 is text as a CHAR16 string, without its end.
func ucs2(text string) []byte {
	var out []byte
	for _, c := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return out
}

// ucs2z is text as a null-terminated CHAR16 string.
func ucs2z(text string) []byte { return append(ucs2(text), 0, 0) }

// signatureData is EFI_SIGNATURE_DATA of one certificate (UEFI 2.9, 32.4.1).
func signatureData(certificate []byte) []byte {
	owner := newGUID(guidOwner)
	return append(owner[:], certificate...)
}

// signatureList is EFI_SIGNATURE_LIST with one certificate.
func signatureList(certificate []byte) []byte {
	data := signatureData(certificate)
	kind := newGUID(guidCertX509)
	out := bytes.Clone(kind[:])
	out = binary.LittleEndian.AppendUint32(out, uint32(28+len(data)))
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	return append(out, data...)
}

// partition is where a boot entry's file lies: a GPT partition.
type partition struct {
	number uint32
	start  uint64 // in blocks of 512 bytes
	blocks uint64
	id     string // unique partition GUID
}

// devicePath is the short-form path HD(...)/File(...)/End of UEFI 2.9 section
// 3.1.2: it names disk and file, not the slot that the disk is in.
func devicePath(p partition, file string) []byte {
	id := newGUID(p.id)
	out := []byte{4, 1, 42, 0} // media, hard drive, 42 bytes (10.3.5.1)
	out = binary.LittleEndian.AppendUint32(out, p.number)
	out = binary.LittleEndian.AppendUint64(out, p.start)
	out = binary.LittleEndian.AppendUint64(out, p.blocks)
	out = append(out, id[:]...)
	out = append(out, 2, 2) // GPT, signature is a GUID
	name := ucs2z(file)
	out = append(out, 4, 4) // media, file path (10.3.5.4)
	out = binary.LittleEndian.AppendUint16(out, uint16(4+len(name)))
	out = append(out, name...)
	return append(out, 0x7f, 0xff, 4, 0)
}

// loadOption is EFI_LOAD_OPTION (UEFI 2.9, 3.1.3), active, without options.
func loadOption(description string, path []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, 1)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(path)))
	out = append(out, ucs2z(description)...)
	return append(out, path...)
}

// bootName is the variable name of a boot entry.
func bootName(number uint16) string { return fmt.Sprintf("Boot%04X", number) }
