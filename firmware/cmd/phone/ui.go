package main

import (
	"context"
	"errors"
	"image"
	"log/slog"
	"os"
	"time"

	"ringfence/boards"
	"ringfence/firmware/intercom"
	"ringfence/firmware/ui"
	"ringfence/hal"
	"ringfence/hal/display"
	"ringfence/hal/input"
)

// uiRole is the wiring of firmware/ui. One goroutine handles all events.
type uiRole struct {
	log    *slog.Logger
	events chan ui.Event
	status ui.Status // of loop
	idle   ui.Status // of notice
}

// emergencyNumbers are dialled in spite of a fault until a configuration says others.
func emergencyNumbers() []string { return []string{"112", "911"} }

func runUI(ctx context.Context, args []string) error {
	r := &uiRole{log: newLog(os.Stderr, roleUI), events: make(chan ui.Event, 64)}
	board, _, err := thisBoard()
	if err != nil {
		return err
	}
	screen, err := openScreen(board, r.log)
	if err != nil {
		return err
	}
	u, err := ui.New(ui.Config{Emergency: emergencyNumbers(), Size: screen.Size()})
	if err != nil {
		return err
	}
	if len(args) == 3 && args[0] == "halted" {
		u.Handle(ui.Fault{What: "Halted at " + args[1] + ": " + args[2], Do: "Switch the phone off and on; then call your administrator."})
		if err := screen.Show(u.Draw()); err != nil {
			r.log.Error("screen", "error", err)
		}
		<-ctx.Done()
		return nil
	}
	hub, err := intercom.Dial(ctx, socket(roleInit), uidInit, r.notice)
	if err != nil {
		return err
	}
	keys, err := board.OpenKeys()
	if err != nil {
		return err
	}
	go r.keys(ctx, keys) // ends with the process: a key press is all it waits for
	if err := hub.Call(ctx, verbSubscribe, nil, nil); err != nil {
		return err
	}
	r.status.Time = wallClock()
	u.Handle(r.status)
	return r.loop(ctx, u, screen, hub)
}

func (r *uiRole) loop(ctx context.Context, u *ui.UI, screen display.Screen, hub *intercom.Conn) error {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	for {
		if err := screen.Show(u.Draw()); err != nil {
			return err
		}
		var e ui.Event
		select {
		case <-ctx.Done():
			return nil
		case <-hub.Done():
			return errors.New("init closed the connection")
		case <-minute.C:
			r.status.Time = wallClock()
			e = r.status
		case e = <-r.events:
			if s, ok := e.(ui.Status); ok {
				r.status = s
			}
		}
		for _, c := range u.Handle(e) {
			if err := r.do(c); err != nil {
				r.log.Warn("not done", "error", err)
				u.Handle(ui.Call{Reason: err.Error()})
			}
		}
	}
}

// do sends a person's wish to the call role. Mute and speaker are not sent:
// init sees those keys itself.
func (r *uiRole) do(c ui.Command) error {
	switch c.Action {
	case ui.Dial:
		return askCall(verbDial, dialMessage{c.Text})
	case ui.Answer:
		return askCall(verbAnswer, nil)
	case ui.Hangup:
		return askCall(verbHangup, nil)
	}
	return nil
}

func askCall(verb string, in any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := intercom.Dial(ctx, socket(roleCall), uidInit, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, verb, in, nil)
}

// notice turns what init tells into events of the user interface.
func (r *uiRole) notice(_ context.Context, q *intercom.Request) (any, error) {
	switch q.Verb {
	case verbHook:
		return decode(q, func(in hookMessage) error { r.events <- ui.Hook{Lifted: in.OffHook}; return nil })
	case verbMic:
		return decode(q, func(in micMessage) error { r.events <- ui.Muted{On: in.Muted}; return nil })
	case verbConfig:
		return decode(q, func(in configMessage) error {
			if in.Config == nil {
				return errors.New("no configuration")
			}
			r.statusIs(func(s *ui.Status) { s.Line, s.Label = in.Config.Lines[0].User, in.Config.Display.Label })
			return nil
		})
	case verbProof:
		return decode(q, func(in proofMessage) error { r.proof(in); return nil })
	case verbLine:
		return decode(q, func(in lineMessage) error { r.line(in); return nil })
	}
	return nil, nil
}

// proof shows whether this phone is accepted, and what to do when it is not.
func (r *uiRole) proof(in proofMessage) {
	fault := ui.Fault{}
	if !in.Proven {
		fault = ui.Fault{What: "Refused: " + in.Why, Do: "Call your administrator. The phone tries again by itself."}
	}
	r.statusIs(func(s *ui.Status) { s.Proven, s.Registered = in.Proven, s.Registered && in.Proven })
	r.events <- fault
}

// statusIs changes the idle page. Only notice's goroutine calls it.
func (r *uiRole) statusIs(change func(*ui.Status)) {
	change(&r.idle)
	r.idle.Time = wallClock()
	r.events <- r.idle
}

// wallClock is the time to show, zero while no clock has set it.
func wallClock() time.Time {
	if now := time.Now(); now.Year() >= 2026 {
		return now
	}
	return time.Time{}
}

func (r *uiRole) line(in lineMessage) {
	switch in.Kind {
	case "registered", "unregistered":
		r.statusIs(func(s *ui.Status) { s.Registered = in.Kind == "registered" })
	case "ringing in":
		r.events <- ui.Call{Phase: ui.Incoming, Peer: in.Peer}
	case "ringing out":
		r.events <- ui.Call{Phase: ui.Outgoing, Peer: in.Peer}
	case "answered":
		r.events <- ui.Call{Phase: ui.Active, Peer: in.Peer, Cipher: in.Suite, Codec: in.Codec}
	case "ended":
		r.events <- ui.Call{Peer: in.Peer, Reason: in.Reason}
	}
}

// keys reads the keyboard for ever.
func (r *uiRole) keys(ctx context.Context, src input.Source) {
	for ctx.Err() == nil {
		e, err := src.Next()
		if err != nil {
			r.log.Error("keys lost", "error", err)
			return
		}
		if e.Kind != input.Key || !e.On {
			continue
		}
		if k, ok := key(e.Code); ok {
			r.events <- ui.KeyPressed{Key: k}
		}
	}
}

func key(c input.Code) (ui.Key, bool) {
	if d, ok := input.Digit(c); ok {
		return ui.Key(d), true
	}
	k, ok := map[input.Code]ui.Key{input.KeyEnter: ui.KeyCall, input.KeyKPEnter: ui.KeyCall, input.KeyEsc: ui.KeyBack,
		input.KeyBackspace: ui.KeyErase, input.KeyM: ui.KeyMute, input.KeyMute: ui.KeyMute, input.KeyS: ui.KeySpeaker}[c]
	return k, ok
}

// openScreen opens the screen. A phone whose screen does not work still calls.
func openScreen(b boards.Board, log *slog.Logger) (display.Screen, error) {
	s, err := b.OpenScreen()
	if errors.Is(err, hal.ErrAbsent) {
		log.Warn("no screen", "error", err)
		return blind{}, nil
	}
	return s, err
}

// blind is the screen of a phone without one.
type blind struct{}

func (blind) Size() image.Point      { return image.Pt(480, 320) }
func (blind) Show(*image.RGBA) error { return nil }
func (blind) Close() error           { return nil }
