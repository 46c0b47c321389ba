package image

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// testUKI is an image of invented parts.
func testUKI(t testing.TB, edit func(*Parts)) []byte {
	t.Helper()
	kernel := bytes.Repeat([]byte{7}, 5000)
	copy(kernel[56:], "ARM\x64")
	p := Parts{Stub: testPE(t), Kernel: kernel, Initramfs: Initramfs([]byte("the program"), nil), CommandLine: "quiet", OSRelease: "ID=x\n"}
	edit(&p)
	out, err := UKI(p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// signedLike appends a signature table as a signing tool does.
func signedLike(image []byte) []byte {
	out := append(bytes.Clone(image), bytes.Repeat([]byte{0x30}, 64)...)
	opt := 0x58
	binary.LittleEndian.PutUint32(out[opt+optCertificates:], uint32(len(image)))
	binary.LittleEndian.PutUint32(out[opt+optCertificates+4:], 64)
	binary.LittleEndian.PutUint32(out[opt+optCheckSum:], 0x12345678)
	return out
}

func TestStripSignature(t *testing.T) {
	image := testUKI(t, func(*Parts) {})
	for name, in := range map[string][]byte{"unsigned": image, "signed": signedLike(image)} {
		if got, err := StripSignature(in); err != nil || !bytes.Equal(got, image) {
			t.Errorf("StripSignature(%s) = %d bytes, %v, want the %d unsigned ones", name, len(got), err, len(image))
		}
	}
	trailing := append(signedLike(image), 1)
	if _, err := StripSignature(trailing); err == nil {
		t.Error("StripSignature(data behind the signature) = nil, want an error")
	}
	inside := signedLike(image)
	binary.LittleEndian.PutUint32(inside[0x58+optCertificates:], 0x10)
	binary.LittleEndian.PutUint32(inside[0x58+optCertificates+4:], uint32(len(inside)-0x10))
	if _, err := StripSignature(inside); err == nil {
		t.Error("StripSignature(signature over the headers) = nil, want an error")
	}
}

// Each change is found, in the part that it was made in.
func TestCompare(t *testing.T) {
	source := testUKI(t, func(*Parts) {})
	section := func(image []byte, name string) []byte {
		out, err := AppendSections(image, []Section{{name, []byte("x")}})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	flip := func(name string) []byte {
		out := bytes.Clone(source)
		data, err := FindSection(out, name)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1] ^= 1
		return out
	}
	tests := []struct {
		name  string
		image []byte
		want  []string // parts that differ, beside the headers and the whole
	}{
		{"same", source, nil},
		{"same, signed", signedLike(source), nil},
		{"kernel", flip(".linux"), []string{"kernel"}},
		{"command line", testUKI(t, func(p *Parts) { p.CommandLine = "debug" }), []string{"command line"}},
		{"os-release", testUKI(t, func(p *Parts) { p.OSRelease = "ID=y\n" }), []string{"os-release"}},
		{"program", testUKI(t, func(p *Parts) { p.Initramfs = Initramfs([]byte("the pr0gram"), nil) }), []string{"initramfs", "initramfs: init"}},
		{"release trust", testUKI(t, func(p *Parts) { p.Initramfs = Initramfs([]byte("the program"), []byte("{}")) }), []string{"initramfs", "initramfs: release-trust.json"}},
		{"archive", testUKI(t, func(p *Parts) { p.Initramfs = append(p.Initramfs, 0) }), []string{"initramfs"}},
		{"no archive", testUKI(t, func(p *Parts) { p.Initramfs = []byte("rubbish") }), []string{"initramfs", "initramfs: init"}},
		{"stub", testUKI(t, func(p *Parts) { p.Stub[0x400] ^= 1 }), []string{"stub section .text"}},
		{"one more section", section(source, ".evil"), []string{"stub section .evil"}},
		{"between the parts", append(bytes.Clone(source), make([]byte, 8)...), nil},
	}
	for _, tt := range tests {
		given, err := splitImage(tt.image)
		if err != nil {
			t.Fatal(err)
		}
		parts, same, err := compare(tt.image, given, source)
		if err != nil {
			t.Fatal(err)
		}
		var differ []string
		for _, p := range parts {
			if !p.Same && p.Name != "headers" && p.Name != "all that a signature covers" {
				differ = append(differ, p.Name)
			}
		}
		if wantSame := strings.HasPrefix(tt.name, "same"); !slices.Equal(differ, tt.want) || same != wantSame {
			t.Errorf("%s: compare = %q, same %v, want %q, %v", tt.name, differ, same, tt.want, wantSame)
		}
	}
}

func FuzzSplitImage(f *testing.F) {
	f.Add(testUKI(f, func(*Parts) {}))
	f.Add(signedLike(testUKI(f, func(*Parts) {})))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_, _ = splitImage(raw) // must not panic
	})
}

func TestVerifyRefuses(t *testing.T) {
	image := testUKI(t, func(*Parts) {})
	for name, c := range map[string]BuildConfig{"release": {Board: "virt64", Release: "1"}, "board elsewhere": {Board: "../x", Release: "1.0.0"},
		"unknown board": {Board: "toaster", Release: "1.0.0"}} {
		if _, _, err := Verify(t.Context(), VerifyConfig{BuildConfig: c}, image); err == nil {
			t.Errorf("Verify(%s) = nil, want an error", name)
		}
	}
	if _, _, err := Verify(t.Context(), VerifyConfig{BuildConfig: BuildConfig{Board: "virt64", Release: "1.0.0"}}, []byte("no image")); err == nil {
		t.Error("Verify(no image) = nil, want an error")
	}
}

// A real signed image of the probe is what its sources give; another release
// number, one changed byte of the program and other sources are not.
func TestVerifyImage(t *testing.T) {
	requireQEMU(t)
	c := buildProbe(t, "", false)
	signed := c.mustRead(t, FileSigned)
	altered := bytes.Clone(signed)
	program, err := FindSection(altered, ".initrd")
	if err != nil {
		t.Fatal(err)
	}
	program[len(program)/2] ^= 1
	other := c
	other.Release = "1.0.1"
	tests := []struct {
		name  string
		c     BuildConfig
		image []byte
		want  []string
	}{
		{"signed", c, signed, nil},
		{"unsigned", c, c.mustRead(t, FileUnsigned), nil},
		{"altered program", c, altered, []string{"initramfs", "initramfs: init", "all that a signature covers"}},
		{"another release", other, signed, []string{"command line", "os-release", "all that a signature covers"}},
	}
	for _, tt := range tests {
		parts, same, err := Verify(t.Context(), VerifyConfig{BuildConfig: tt.c}, tt.image)
		if err != nil {
			t.Fatal(err)
		}
		var differ []string
		for _, p := range parts {
			if !p.Same && p.Name != "headers" {
				differ = append(differ, p.Name)
			}
		}
		slices.Sort(differ)
		slices.Sort(tt.want)
		if !slices.Equal(differ, tt.want) || same != (tt.want == nil) {
			t.Errorf("Verify(%s) = %q, same %v, want %q", tt.name, differ, same, tt.want)
		}
	}
	key, err := c.Manufacturer.ReleaseKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := VerifyProvenance(c.mustRead(t, FileProvenance), key.Public(), signed)
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Predicate.Definition.Parameters; p.Release != "1.0.0" || p.Board != "virt64" || p.Package != c.Program.Package {
		t.Errorf("provenance parameters = %+v", p)
	}
	for _, d := range s.Predicate.Definition.Dependencies[:4] {
		if len(d.Digest) == 0 {
			t.Errorf("provenance names %s without a digest", d.Name)
		}
	}
}

func TestProvenance(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	init, err := os.ReadFile(self) // any Go program
	if err != nil {
		t.Fatal(err)
	}
	c := BuildConfig{Board: "virt64", Release: "1.0.0"}
	in := materials{init: init, image: []byte("kernel"), firmware: []byte("uefi"), kernel: &Kernel{Version: "6.1", Compiler: "gcc (Debian) 12"}, stub: &Stub{Data: []byte("stub"), Version: "252"}}
	image := []byte("image")
	s, err := c.provenance(context.Background(), in, map[string][]byte{"phone.efi": image})
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := SignProvenance(s, key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := VerifyProvenance(envelope, key.Public(), image); err != nil || got.Predicate.Run.Builder.ID != provenanceBuilder {
		t.Errorf("VerifyProvenance = %+v, %v, want the statement", got, err)
	}
	if _, err := VerifyProvenance(envelope, key.Public(), []byte("another")); err == nil {
		t.Error("VerifyProvenance(another image) = nil, want an error")
	}
	if _, err := VerifyProvenance(envelope, stranger.Public(), image); err == nil {
		t.Error("VerifyProvenance(another key) = nil, want an error")
	}
	if _, err := VerifyProvenance(bytes.Replace(envelope, []byte("in-toto"), []byte("in-t0to"), 1), key.Public(), image); err == nil {
		t.Error("VerifyProvenance(another payload type) = nil, want an error")
	}
	s.PredicateType = "https://slsa.dev/provenance/v0.2"
	if envelope, err = SignProvenance(s, key); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyProvenance(envelope, key.Public(), image); err == nil {
		t.Error("VerifyProvenance(another predicate) = nil, want an error")
	}
}

func TestSourceDigest(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	base := fstest.MapFS{"go.mod": file("m"), "a/a.go": file("a"), "boards/x/kernel.frag": file("k"), "README.md": file("r"), "a/a_test.go": file("t"), "build/x.go": file("b")}
	digest := func(edit func(fstest.MapFS)) string {
		t.Helper()
		tree := fstest.MapFS{}
		for name, f := range base {
			tree[name] = f
		}
		edit(tree)
		d, err := sourceDigest(tree)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := digest(func(fstest.MapFS) {})
	for name, changes := range map[string]bool{"go.mod": true, "a/a.go": true, "boards/x/kernel.frag": true, "b/new.go": true,
		"README.md": false, "a/a_test.go": false, "build/x.go": false, ".git/x.go": false} {
		if got := digest(func(tree fstest.MapFS) { tree[name] = file("changed") }); (got != want) != changes {
			t.Errorf("digest changes with %s: %v, want %v", name, got != want, changes)
		}
	}
}
