// Package ui is what a person sees and does: it turns keys and the state of
// the phone into commands and pages. It opens no device and speaks to nobody:
// the ui role feeds it events, sends its commands on and shows its pictures.
// The rules are R41 (only a person answers), R44 (strangers' text is cleaned),
// R54 (emergency numbers in every state) and R56 (the protection of a call is shown).
package ui

import (
	"errors"
	"image"
	"slices"
	"strings"
	"unicode"
)

// MaxNumber bounds a dialled number, in digits.
const MaxNumber = 32

// Config is what a user interface needs to know.
type Config struct {
	Size      image.Point // of the screen in pixels, at least 320x240; zero means 480x320
	Emergency []string    // numbers that may be dialled in spite of a fault; required
}

// UI is the user interface. It is used by one goroutine at a time.
type UI struct {
	state  state
	canvas *canvas
}

// state is all that a page shows; step makes the next one.
type state struct {
	emergency []string
	lifted    bool
	number    string // being dialled
	notice    string // one line, until the next key
	status    Status
	call      Call
	muted     bool
	fault     Fault
}

// New returns a user interface that shows the idle page.
func New(c Config) (*UI, error) {
	if len(c.Emergency) == 0 {
		return nil, errors.New("user interface: no emergency numbers")
	}
	if c.Size == (image.Point{}) {
		c.Size = image.Pt(480, 320)
	}
	if c.Size.X < 320 || c.Size.Y < 240 || c.Size.X > 4096 || c.Size.Y > 4096 {
		return nil, errors.New("user interface: the screen must have 320x240 to 4096x4096 pixels")
	}
	canvas, err := newCanvas(c.Size)
	if err != nil {
		return nil, err
	}
	return &UI{state: state{emergency: slices.Clone(c.Emergency)}, canvas: canvas}, nil
}

// Handle takes an event in and returns what the person wants done.
func (u *UI) Handle(e Event) []Command {
	next, commands := u.state.step(e)
	u.state = next
	return commands
}

// Draw returns the page as it is now. The picture belongs to the UI and is
// valid until the next Draw.
func (u *UI) Draw() *image.RGBA {
	u.canvas.clear()
	drawPage(u.canvas, u.state)
	return u.canvas.picture
}

func (s state) step(e Event) (state, []Command) {
	switch e := e.(type) {
	case KeyPressed:
		s.notice = ""
		return s.key(e.Key)
	case Hook:
		return s.hook(e.Lifted)
	case Status:
		e.Line, e.Label = clean(e.Line, 32), clean(e.Label, 40)
		s.status = e
	case Call:
		return s.callChanged(e), nil
	case Muted:
		s.muted = e.On
	case Fault:
		s.fault = Fault{What: clean(e.What, 160), Do: clean(e.Do, 160)}
	}
	return s, nil
}

func (s state) hook(lifted bool) (state, []Command) {
	s.lifted, s.notice = lifted, ""
	switch {
	case lifted && s.call.Phase == Incoming:
		return s, []Command{{Action: Answer}}
	case !lifted && s.call.Phase != NoCall && s.call.Phase != Incoming:
		s.number = ""
		return s, []Command{{Action: Hangup}}
	case !lifted:
		s.number = ""
	}
	return s, nil
}

func (s state) key(k Key) (state, []Command) {
	switch {
	case k >= '0' && k <= '9' || k == '*' || k == '#':
		return s.digit(string(k))
	case k == KeyErase && s.number != "":
		s.number = s.number[:len(s.number)-1]
	case k == KeyCall:
		return s.callKey()
	case k == KeyBack:
		s.number = ""
		if s.call.Phase != NoCall {
			return s, []Command{{Action: Hangup}}
		}
	case k == KeyMute && (s.call.Phase == Active || s.call.Phase == Held):
		return s, []Command{{Action: Mute}}
	case k == KeySpeaker:
		return s, []Command{{Action: Speaker}}
	}
	return s, nil
}

func (s state) digit(d string) (state, []Command) {
	switch {
	case s.call.Phase == Active:
		return s, []Command{{Action: Tone, Text: d}}
	case s.call.Phase == NoCall && len(s.number) < MaxNumber:
		s.number += d
	}
	return s, nil
}

func (s state) callKey() (state, []Command) {
	switch {
	case s.call.Phase == Incoming:
		return s, []Command{{Action: Answer}}
	case s.call.Phase != NoCall || s.number == "":
		return s, nil
	}
	number := s.number
	s.number = ""
	switch {
	case slices.Contains(s.emergency, number): // in every state, R54
	case s.fault.What != "":
		s.notice = "Only emergency numbers can be called now"
		return s, nil
	case !s.status.Registered:
		s.notice = "Not connected to the call server"
		return s, nil
	}
	return s, []Command{{Action: Dial, Text: number}}
}

func (s state) callChanged(c Call) state {
	c.Peer, c.Name = clean(c.Peer, 64), clean(c.Name, 32)
	c.Cipher, c.Codec, c.Reason = clean(c.Cipher, 32), clean(c.Codec, 16), clean(c.Reason, 60)
	s.notice = ""
	if c.Phase == NoCall {
		s.notice = c.Reason
		s.muted = false
	}
	if c.Phase != NoCall {
		s.number = ""
	}
	s.call = c
	return s
}

// clean makes a stranger's text safe to show: no control, formatting or
// direction characters, which could make a name look like another, no runs of
// spaces, at most limit characters.
func clean(text string, limit int) string {
	var out strings.Builder
	count, space := 0, false
	for _, r := range text {
		if unicode.IsSpace(r) {
			space = true
			continue
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) || unicode.Is(unicode.M, r) {
			continue
		}
		if space && count > 0 {
			out.WriteByte(' ')
			count++
		}
		space = false
		if count >= limit {
			break
		}
		out.WriteRune(r)
		count++
	}
	return strings.TrimSpace(out.String())
}
