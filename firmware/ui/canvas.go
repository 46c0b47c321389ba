package ui

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// size is a height of letters.
type size int

const (
	small size = iota
	medium
	large
)

// canvas is a picture with pens.
type canvas struct {
	picture *image.RGBA
	faces   [3]font.Face
	metrics [3]font.Metrics
}

func newCanvas(bounds image.Point) (*canvas, error) {
	parsed, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("read font: %w", err)
	}
	c := &canvas{picture: image.NewRGBA(image.Rectangle{Max: bounds})}
	for i, points := range [3]float64{16, 24, 44} {
		scaled := points * float64(bounds.Y) / 320
		face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: scaled, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			return nil, fmt.Errorf("make font of %v points: %w", scaled, err)
		}
		c.faces[i], c.metrics[i] = face, face.Metrics()
	}
	return c, nil
}

func (c *canvas) clear() { c.fill(c.picture.Rect, ground) }

func (c *canvas) fill(r image.Rectangle, ink color.RGBA) {
	draw.Draw(c.picture, r, image.NewUniform(ink), image.Point{}, draw.Src)
}

func (c *canvas) width() int  { return c.picture.Rect.Dx() }
func (c *canvas) height() int { return c.picture.Rect.Dy() }

// unit scales lengths that were thought out for a screen of 320 lines.
func (c *canvas) unit(n int) int { return n * c.height() / 320 }

func (c *canvas) lineHeight(s size) int { return c.metrics[s].Height.Ceil() }

func (c *canvas) measure(text string, s size) int {
	return font.MeasureString(c.faces[s], text).Ceil()
}

// text writes one line with its top left corner at (x, y).
func (c *canvas) text(x, y int, text string, s size, ink color.RGBA) {
	d := font.Drawer{
		Dst: c.picture, Src: image.NewUniform(ink), Face: c.faces[s],
		Dot: fixed.Point26_6{X: fixed.I(x), Y: fixed.I(y) + c.metrics[s].Ascent},
	}
	d.DrawString(text)
}

// centre writes one line in the middle, in smaller letters or cut with "..." when it is too wide.
func (c *canvas) centre(y int, text string, s size, ink color.RGBA) {
	limit := c.width() - c.unit(24)
	for s > small && c.measure(text, s) > limit {
		s--
	}
	text = c.cut(text, s, limit)
	c.text((c.width()-c.measure(text, s))/2, y, text, s, ink)
}

func (c *canvas) cut(text string, s size, limit int) string {
	if c.measure(text, s) <= limit {
		return text
	}
	runes := []rune(text)
	for len(runes) > 0 && c.measure(string(runes)+"...", s) > limit {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "..."
}

// lock draws a padlock, closed or open.
func (c *canvas) lock(x, y int, closed bool, ink color.RGBA) {
	u := c.unit
	c.fill(image.Rect(x, y+u(9), x+u(16), y+u(20)), ink)
	raise := 0
	if !closed {
		raise = u(4)
	}
	c.fill(image.Rect(x+u(2), y+u(1)-raise, x+u(14), y+u(4)-raise), ink)
	c.fill(image.Rect(x+u(2), y+u(1)-raise, x+u(5), y+u(9)), ink)
	c.fill(image.Rect(x+u(11), y+u(1)-raise, x+u(14), y+u(9)-2*raise), ink)
}
