package ui

import (
	"image"
	"image/color"
	"strings"
)

// The colours have a contrast of at least 4.5:1 on the ground (WCAG 2.1, 1.4.3).
var (
	ground = color.RGBA{R: 0x10, G: 0x18, B: 0x20, A: 0xff}
	bar    = color.RGBA{R: 0x1e, G: 0x2a, B: 0x36, A: 0xff}
	ink    = color.RGBA{R: 0xf2, G: 0xf4, B: 0xf5, A: 0xff}
	faint  = color.RGBA{R: 0xa4, G: 0xb2, B: 0xbf, A: 0xff}
	good   = color.RGBA{R: 0x5c, G: 0xd6, B: 0x8a, A: 0xff}
	warn   = color.RGBA{R: 0xff, G: 0xb8, B: 0x4d, A: 0xff}
)

// drawPage chooses the page: a call comes before a fault, so that an
// emergency call is seen.
func drawPage(c *canvas, s state) {
	header(c, s)
	switch {
	case s.call.Phase == Incoming:
		callPage(c, s, "Incoming call", "lift the handset or Enter: answer     Esc: refuse")
	case s.call.Phase == Outgoing:
		callPage(c, s, "Calling", "Esc or handset down: cancel")
	case s.call.Phase == Active:
		callPage(c, s, "In call", "M: mute     Esc or handset down: hang up")
	case s.call.Phase == Held:
		callPage(c, s, "On hold", "M: mute     Esc or handset down: hang up")
	case s.number != "" || s.lifted && s.fault.What == "" && s.notice == "":
		dialPage(c, s)
	case s.fault.What != "":
		faultPage(c, s)
	default:
		idlePage(c, s)
	}
}

func header(c *canvas, s state) {
	height := c.unit(32)
	c.fill(image.Rect(0, 0, c.width(), height), bar)
	line := "Line " + s.status.Line
	if s.status.Line == "" {
		line = "No line"
	}
	y := (height - c.lineHeight(small)) / 2
	c.text(c.unit(12), y, c.cut(line, small, c.width()/2), small, ink)
	clock := clockText(s)
	right := c.width() - c.unit(12) - c.measure(clock, small)
	c.text(right, y, clock, small, ink)
	tone := good
	if !s.status.Proven {
		tone = warn
	}
	c.lock(right-c.unit(28), c.unit(6), s.status.Proven, tone)
}

func clockText(s state) string {
	if s.status.Time.IsZero() {
		return "--:--"
	}
	return s.status.Time.Format("15:04")
}

func footer(c *canvas, text string) {
	c.centre(c.height()-c.unit(10)-c.lineHeight(small), text, small, faint)
}

func idlePage(c *canvas, s state) {
	c.centre(c.unit(70), clockText(s), large, ink)
	date := "time is not known yet"
	if !s.status.Time.IsZero() {
		date = s.status.Time.Format("Monday, 2 January 2006")
	}
	c.centre(c.unit(126), date, small, faint)
	c.centre(c.unit(164), s.status.Label, medium, ink)
	text, tone := "Proven and connected", good
	switch {
	case !s.status.Proven:
		text, tone = "Waiting for proof", warn
	case !s.status.Registered:
		text, tone = "Not connected to the call server", warn
	}
	c.centre(c.unit(210), text, medium, tone)
	if s.notice != "" {
		c.centre(c.unit(248), s.notice, small, warn)
	}
	footer(c, "lift the handset or press digits to dial")
}

func dialPage(c *canvas, s state) {
	c.centre(c.unit(64), "Dial", medium, faint)
	number := s.number
	if number == "" {
		number = "_"
	}
	c.centre(c.unit(126), number, large, ink)
	if s.fault.What != "" {
		c.centre(c.unit(200), "Emergency numbers only: "+strings.Join(s.emergency, ", "), small, warn)
	}
	footer(c, "Enter: call     Esc: clear")
}

func callPage(c *canvas, s state, title, help string) {
	c.centre(c.unit(50), title, medium, faint)
	who, beside := s.call.Name, s.call.Peer
	if who == "" {
		who, beside = s.call.Peer, ""
	}
	c.centre(c.unit(92), who, large, ink)
	c.centre(c.unit(148), beside, small, faint)
	protection(c, s)
	if s.muted {
		box := image.Rect(c.width()/2-c.unit(110), c.unit(226), c.width()/2+c.unit(110), c.unit(264))
		c.fill(box, warn)
		c.centre(c.unit(230), "Microphone muted", medium, ground)
	}
	footer(c, help)
}

// protection says how the call is protected, never more than what is known (R56).
func protection(c *canvas, s state) {
	if s.call.Phase != Active && s.call.Phase != Held {
		return
	}
	if s.call.Cipher == "" {
		c.centre(c.unit(186), "No protected media yet", medium, warn)
		return
	}
	text := s.call.Cipher
	if s.call.Codec != "" {
		text += "  " + s.call.Codec
	}
	left := (c.width() - c.measure(text, small)) / 2
	c.lock(left-c.unit(26), c.unit(186), true, good)
	c.centre(c.unit(186), text, small, good)
}

func faultPage(c *canvas, s state) {
	c.centre(c.unit(46), "This phone is not in service", medium, warn)
	y := paragraph(c, c.unit(92), s.fault.What, ink)
	paragraph(c, y+c.unit(12), s.fault.Do, faint)
	if s.notice != "" {
		c.centre(c.unit(236), s.notice, small, warn)
	}
	c.centre(c.unit(260), "Emergency calls: "+strings.Join(s.emergency, ", "), small, ink)
	footer(c, "dial the number and press Enter")
}

// paragraph writes text in centred lines and returns the y below the last.
func paragraph(c *canvas, y int, text string, tone color.RGBA) int {
	limit := c.width() - c.unit(40)
	line := ""
	for _, word := range strings.Fields(text) {
		longer := strings.TrimSpace(line + " " + word)
		if line != "" && c.measure(longer, small) > limit {
			c.centre(y, line, small, tone)
			y += c.lineHeight(small) + c.unit(2)
			longer = word
		}
		line = longer
	}
	c.centre(y, line, small, tone)
	return y + c.lineHeight(small) + c.unit(2)
}
