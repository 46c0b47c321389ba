package display

import (
	"encoding/binary"
	"errors"
	"image"
	"testing"
)

// answers builds the kernel's two answers for virtio-gpu's 480x320 XRGB8888.
func answers(word int, change func(variable, fixed []byte)) ([]byte, []byte) {
	variable, fixed := make([]byte, sizeVar), make([]byte, sizeFix)
	put := func(i, v int) { binary.NativeEndian.PutUint32(variable[4*i:], uint32(v)) }
	for i, v := range map[int]int{0: 480, 1: 320, 2: 480, 3: 320, 6: 32, 8: 16, 9: 8, 11: 8, 12: 8, 14: 0, 15: 8} {
		put(i, v)
	}
	binary.NativeEndian.PutUint32(fixed[28+word:], fbTrueColor)
	binary.NativeEndian.PutUint32(fixed[40+word:], 1920)
	if change != nil {
		change(variable, fixed)
	}
	return variable, fixed
}

func TestParse(t *testing.T) {
	want := Format{Size: image.Pt(480, 320), Stride: 1920, Red: 2, Green: 1, Blue: 0}
	for _, word := range []int{4, 8} {
		v, f := answers(word, nil)
		if got, err := parse(v, f, word); err != nil || got != want {
			t.Errorf("parse with words of %d = %+v, %v, want %+v", word, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	set := func(i, v int) func(variable, fixed []byte) {
		return func(variable, _ []byte) { binary.NativeEndian.PutUint32(variable[4*i:], uint32(v)) }
	}
	tests := []struct {
		name   string
		change func(variable, fixed []byte)
		format bool
	}{
		{"16 bits", set(6, 16), true},
		{"grey", set(7, 1), true},
		{"10-bit red", set(9, 10), true},
		{"red on green", set(8, 8), true},
		{"odd offset", set(8, 17), true},
		{"offset outside", set(8, 32), true},
		{"no width", set(0, 0), false},
		{"absurd height", set(1, 1<<20), false},
		{"short line", func(_, fixed []byte) { binary.NativeEndian.PutUint32(fixed[48:], 100) }, false},
		{"palette", func(_, fixed []byte) { binary.NativeEndian.PutUint32(fixed[36:], 3) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, f := answers(8, tt.change)
			got, err := parse(v, f, 8)
			if err == nil || errors.Is(err, ErrFormat) != tt.format {
				t.Errorf("parse = %+v, %v, want ErrFormat: %v", got, err, tt.format)
			}
		})
	}
}

func TestPack(t *testing.T) {
	f := Format{Size: image.Pt(2, 2), Stride: 12, Red: 2, Green: 1, Blue: 0}
	src := image.NewRGBA(image.Rect(0, 0, 2, 2))
	copy(src.Pix[src.PixOffset(1, 1):], []byte{1, 2, 3, 255})
	dst := make([]byte, 24)
	if err := f.Pack(dst, src); err != nil {
		t.Fatal(err)
	}
	if got := [4]byte(dst[16:20]); got != [4]byte{3, 2, 1, 0} {
		t.Errorf("pixel (1,1) = %v, want [3 2 1 0]", got)
	}
	if err := f.Pack(dst[:10], src); err == nil {
		t.Error("Pack into 10 bytes = nil, want an error")
	}
	if err := f.Pack(dst, image.NewRGBA(image.Rect(0, 0, 3, 2))); err == nil {
		t.Error("Pack of a wider picture = nil, want an error")
	}
	if _, err := New(nil); err == nil {
		t.Error("New(nil) = nil, want an error")
	}
}
