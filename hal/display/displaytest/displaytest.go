// Package displaytest is a screen that keeps what it was shown. It is for
// tests, never for the phone, and checks sizes as hal/display does.
package displaytest

import (
	"fmt"
	"image"
	"sync"

	"ringfence/hal/display"
)

// Screen keeps every picture. Its methods may be called from any goroutine.
type Screen struct {
	size image.Point

	mu    sync.Mutex
	shown []*image.RGBA
}

var _ display.Screen = (*Screen)(nil)

// New returns a black screen of the given size in pixels.
func New(size image.Point) *Screen { return &Screen{size: size} }

// Size is what New was given.
func (s *Screen) Size() image.Point { return s.size }

// Show keeps a copy of the picture.
func (s *Screen) Show(picture *image.RGBA) error {
	if picture == nil || picture.Rect.Size() != s.size {
		return fmt.Errorf("picture does not fit a screen of %v", s.size)
	}
	copied := image.NewRGBA(picture.Rect)
	copy(copied.Pix, picture.Pix)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = append(s.shown, copied)
	return nil
}

// Shown returns every picture so far, oldest first.
func (s *Screen) Shown() []*image.RGBA {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*image.RGBA(nil), s.shown...)
}

// Close does nothing.
func (s *Screen) Close() error { return nil }
