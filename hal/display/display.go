// Package display shows pictures on a Linux framebuffer. It draws nothing
// itself and chooses no modes. Interface: linux/fb.h of Linux 6.1.
package display

import (
	"errors"
	"fmt"
	"image"
)

// Screen shows pictures. Show copies the picture before it returns; it is
// used by one goroutine at a time.
type Screen interface {
	// Size is the visible area in pixels.
	Size() image.Point
	// Show puts the picture on the screen; its size must be Size.
	Show(*image.RGBA) error
	Close() error
}

// ErrFormat is returned for a framebuffer whose pixels are not 32 bits of red,
// green and blue with 8 bits each.
var ErrFormat = errors.New("framebuffer is not true colour with 32 bits per pixel")

// Format is how a framebuffer stores pixels.
type Format struct {
	Size             image.Point
	Stride           int // bytes from one line to the next
	Red, Green, Blue int // byte offsets inside a pixel of 4 bytes
}

// Limit bounds a screen's sides in pixels, against absurd answers of a driver.
const Limit = 4096

// Validate names the first value that no screen of ours has.
func (f Format) Validate() error {
	if f.Size.X <= 0 || f.Size.Y <= 0 || f.Size.X > Limit || f.Size.Y > Limit {
		return fmt.Errorf("framebuffer of %v pixels, want 1 to %d a side", f.Size, Limit)
	}
	if f.Stride < f.Size.X*4 || f.Stride > Limit*16 {
		return fmt.Errorf("framebuffer line of %d bytes for %d pixels", f.Stride, f.Size.X)
	}
	for _, offset := range []int{f.Red, f.Green, f.Blue} {
		if offset < 0 || offset > 3 {
			return ErrFormat
		}
	}
	if f.Red == f.Green || f.Green == f.Blue || f.Red == f.Blue {
		return ErrFormat
	}
	return nil
}

// Pack writes the picture's pixels in the framebuffer's form to dst, which
// must hold Stride*Size.Y bytes. Alpha is left out: the screen is opaque.
func (f Format) Pack(dst []byte, src *image.RGBA) error {
	if src == nil || src.Rect.Size() != f.Size {
		return fmt.Errorf("picture does not fit a screen of %v", f.Size)
	}
	if len(dst) < f.Stride*f.Size.Y {
		return fmt.Errorf("%d bytes for a screen of %d", len(dst), f.Stride*f.Size.Y)
	}
	for y := range f.Size.Y {
		line := src.Pix[y*src.Stride:]
		out := dst[y*f.Stride:]
		for x := range f.Size.X {
			p, q := line[4*x:4*x+4], out[4*x:4*x+4]
			q[0], q[1], q[2], q[3] = 0, 0, 0, 0
			q[f.Red], q[f.Green], q[f.Blue] = p[0], p[1], p[2]
		}
	}
	return nil
}
