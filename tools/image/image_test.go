package image

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"debug/pe"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/tools/tooltest"
)

// testPE is a PE32+ file with one section and room for more.
func testPE(t testing.TB) []byte {
	t.Helper()
	raw := make([]byte, 0x600)
	copy(raw, "MZ")
	raw[peOffsetAt] = 0x40
	copy(raw[0x40:], "PE\x00\x00\x64\xaa\x01\x00")
	raw[0x54] = 0xa0 // size of the optional header
	opt := 0x58
	put := func(at int, v ...byte) { copy(raw[opt+at:], v) }
	put(0, 0x0b, 0x02)
	put(optSectionAlign, 0, 0x10)
	put(optFileAlign, 0, 2)
	put(optSizeOfImage, 0, 0x20)
	put(optSizeOfHeaders, 0, 4)
	put(optDirCount, 6)
	section := opt + 0xa0
	copy(raw[section:], ".text\x00\x00\x00\x00\x02\x00\x00\x00\x10\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00")
	return raw
}

func TestAppendSections(t *testing.T) {
	content := bytes.Repeat([]byte("phone"), 300)
	out, err := AppendSections(testPE(t), []Section{{".osrel", []byte("ID=x\n")}, {".initrd", content}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(out)) // the standard library's reader is the judge
	if err != nil {
		t.Fatal(err)
	}
	s := f.Section(".initrd")
	if s == nil || s.VirtualSize != uint32(len(content)) || s.VirtualAddress%sectionSpacing != 0 {
		t.Fatalf("section .initrd = %+v", s)
	}
	if got, err := s.Data(); err != nil || !bytes.Equal(got[:len(content)], content) {
		t.Errorf("content of .initrd is not what was written (%v)", err)
	}
	if got, err := FindSection(out, ".osrel"); err != nil || string(got) != "ID=x\n" {
		t.Errorf("FindSection(.osrel) = %q, %v", got, err)
	}
	if image := f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage; image < s.VirtualAddress+s.VirtualSize {
		t.Errorf("SizeOfImage = %#x, last section ends at %#x", image, s.VirtualAddress+s.VirtualSize)
	}
}

func TestMalformedPE(t *testing.T) {
	set := func(at int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = v; return b }
	}
	tests := []struct {
		name string
		edit func([]byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"no MZ", set(0, 'X')},
		{"no PE", set(0x40, 'X')},
		{"PE offset outside", set(peOffsetAt+3, 0x7f)},
		{"headers cut", func(b []byte) []byte { return b[:0x80] }},
		{"too many sections", set(0x46, 200)},
		{"PE32", set(0x59, 0x01)},
		{"section outside", set(0x58+0xa0+23, 0x7f)},
		{"headers outside", set(0x58+optSizeOfHeaders+3, 0x7f)},
	}
	for _, tt := range tests {
		raw := tt.edit(testPE(t))
		if _, err := Authenticode(raw); err == nil {
			t.Errorf("%s: Authenticode accepted it", tt.name)
		}
		if _, err := AppendSections(raw, []Section{{".x", []byte{1}}}); err == nil {
			t.Errorf("%s: AppendSections accepted it", tt.name)
		}
	}
}

func TestAppendSectionsRefuses(t *testing.T) {
	many := make([]Section, 20)
	for i := range many {
		many[i] = Section{".x", []byte{1}}
	}
	for name, add := range map[string][]Section{"long name": {{".toolongname", []byte{1}}}, "no content": {{".x", nil}}, "no room": many} {
		if _, err := AppendSections(testPE(t), add); err == nil {
			t.Errorf("%s: AppendSections accepted it", name)
		}
	}
}

// Everything counts but the checksum, the certificates and their entry.
func TestAuthenticodeCovers(t *testing.T) {
	image, err := AppendSections(testPE(t), []Section{{".linux", bytes.Repeat([]byte{7}, 1000)}})
	if err != nil {
		t.Fatal(err)
	}
	want, err := Authenticode(image)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		at   int
		same bool
	}{
		{"checksum", 0x58 + optCheckSum, true},
		{"header", 0x58 + 16, false},
		{"first section", 0x400, false},
		{"last byte", len(image) - 1, false},
	}
	for _, tt := range tests {
		changed := bytes.Clone(image)
		changed[tt.at] ^= 1
		if got, err := Authenticode(changed); err != nil || (got == want) != tt.same {
			t.Errorf("%s: digest unchanged = %v (%v), want %v", tt.name, got == want, err, tt.same)
		}
	}
}

func FuzzPE(f *testing.F) {
	f.Add(testPE(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := Authenticode(raw); err != nil {
			return
		}
		_, _ = FindSection(raw, ".linux")                        // must not panic
		_, _ = AppendSections(raw, []Section{{".x", []byte{1}}}) // must not panic
	})
}

// cpio itself must read what we write.
func TestInitramfs(t *testing.T) {
	tooltest.Need(t, "cpio")
	archive := Initramfs([]byte("#!/bin/true"), nil)
	cmd := exec.Command("cpio", "-itv", "--quiet")
	cmd.Stdin = bytes.NewReader(archive)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	for _, want := range []string{"drwxr-xr-x", "crw-------", "5,   1", "dev/console", "-rwxr-xr-x", "init", "drwxrwxrwt"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("listing lacks %q:\n%s", want, out)
		}
	}
	if !bytes.Equal(archive, Initramfs([]byte("#!/bin/true"), nil)) {
		t.Error("two archives of the same input differ")
	}
}

func TestFragment(t *testing.T) {
	want, err := parseFragment("# why\nCONFIG_A=y\n# CONFIG_BT is not set\n\nCONFIG_LSM=\"x\"\n")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, config, wantErr string }{
		{"all took", "CONFIG_A=y\nCONFIG_LSM=\"x\"\n", ""},
		{"off said", "CONFIG_A=y\nCONFIG_LSM=\"x\"\n# CONFIG_BT is not set\n", ""},
		{"wanted one missing", "CONFIG_LSM=\"x\"\n", "CONFIG_A=n (want y)"},
		{"unwanted one on", "CONFIG_A=y\nCONFIG_LSM=\"x\"\nCONFIG_BT=y\n", "CONFIG_BT=y (want n)"},
		{"another value", "CONFIG_A=y\nCONFIG_LSM=\"z\"\n", "CONFIG_LSM"},
	}
	for _, tt := range tests {
		err := want.check([]byte(tt.config))
		if (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
			t.Errorf("%s: check = %v, want %q", tt.name, err, tt.wantErr)
		}
	}
	if _, err := parseFragment("CONFIG_A y\n"); err == nil {
		t.Error("parseFragment accepted a malformed line")
	}
}

// No radio and no loadable module is in a product kernel.
func TestProductFragmentHasNoRadio(t *testing.T) {
	product, err := mergeFragments(Fragments("../../boards/virt64", false))
	if err != nil {
		t.Fatal(err)
	}
	for _, symbol := range []string{"CONFIG_WIRELESS", "CONFIG_CFG80211", "CONFIG_BT", "CONFIG_RFKILL", "CONFIG_NFC", "CONFIG_RC_CORE",
		"CONFIG_MODULES", "CONFIG_DEBUG_FS", "CONFIG_DEVMEM", "CONFIG_INPUT_UINPUT", "CONFIG_USB_SUPPORT"} {
		if v, ok := product[symbol]; ok && v != "n" {
			t.Errorf("product kernel has %s=%s", symbol, v)
		}
	}
	test, err := mergeFragments(Fragments("../../boards/virt64", true))
	if err != nil {
		t.Fatal(err)
	}
	if test["CONFIG_MAC80211_HWSIM"] != "y" || test["CONFIG_BT_HCIVHCI"] != "y" || test["CONFIG_TCG_TIS"] != "y" {
		t.Error("test kernel lacks its radios or the product's TPM")
	}
}

func TestInitManufacturer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := InitManufacturer(dir, "Test", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"secureboot/PK.key", "secureboot/KEK.key", "secureboot/db.key", "release.key", "device-ca.key", "voucher.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info, err)
		}
	}
	ca, voucher := readCertificate(t, dir, "device-ca.pem"), readCertificate(t, dir, "voucher.pem")
	if err := voucher.CheckSignatureFrom(ca); err != nil {
		t.Errorf("voucher signer is not issued by the device CA: %v", err)
	}
	if _, ok := voucher.PublicKey.(*ecdsa.PublicKey); !ok || voucher.IsCA {
		t.Errorf("voucher signer: key %T, CA %v", voucher.PublicKey, voucher.IsCA)
	}
	if err := InitManufacturer(dir, "Test", time.Now()); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("second InitManufacturer = %v, want a refusal", err)
	}
}

func readCertificate(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestBuildRefuses(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := InitManufacturer(keys, "Test", time.Now()); err != nil {
		t.Fatal(err)
	}
	full := BuildConfig{Board: "virt64", Release: "1.0.0", Manufacturer: Manufacturer(keys), Out: filepath.Join(t.TempDir(), "out")}
	tests := []struct {
		name, want string
		edit       func(*BuildConfig)
	}{
		{"release", "major.minor.patch", func(c *BuildConfig) { c.Release = "1.0" }},
		{"no board", "needs a board", func(c *BuildConfig) { c.Board = "" }},
		{"board elsewhere", "folder of boards", func(c *BuildConfig) { c.Board = "../x" }},
		{"unknown board", "known: virt64", func(c *BuildConfig) { c.Board = "toaster" }},
		{"no output", "output folder", func(c *BuildConfig) { c.Out = "" }},
		{"no keys", "manufacturer init", func(c *BuildConfig) { c.Manufacturer = "/nonexistent" }},
	}
	for _, tt := range tests {
		c := full
		tt.edit(&c)
		if _, err := Build(t.Context(), c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Build = %v, want an error with %q", tt.name, err, tt.want)
		}
		if _, err := os.Stat(full.Out); err == nil {
			t.Errorf("%s: a refused build left an output folder", tt.name)
		}
	}
}

func TestUKIRefuses(t *testing.T) {
	kernel := make([]byte, 64)
	copy(kernel[56:], "ARM\x64")
	good := Parts{Stub: testPE(t), Kernel: kernel, Initramfs: []byte{1}, CommandLine: "quiet", OSRelease: "ID=x\n"}
	if _, err := UKI(good); err != nil {
		t.Fatalf("UKI of good parts: %v", err)
	}
	for name, edit := range map[string]func(*Parts){
		"no kernel": func(p *Parts) { p.Kernel = []byte("bzImage") }, "no initramfs": func(p *Parts) { p.Initramfs = nil },
		"no command line": func(p *Parts) { p.CommandLine = "" }, "newline": func(p *Parts) { p.CommandLine = "a\nb" },
		"no stub": func(p *Parts) { p.Stub = nil },
	} {
		p := good
		edit(&p)
		if _, err := UKI(p); err == nil {
			t.Errorf("%s: UKI accepted it", name)
		}
	}
}

func TestFlashDiskRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	for name, image := range map[string][]byte{"nothing": nil, "no image": []byte("hello")} {
		if err := FlashDisk(context.Background(), path, image, nil); err == nil {
			t.Errorf("%s: FlashDisk accepted it", name)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a refused flash left a disk", name)
		}
	}
}
