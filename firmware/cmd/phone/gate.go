package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"ringfence/firmware/intercom"
	"ringfence/firmware/micgate"
	"ringfence/hal"
	"ringfence/hal/audio"
	"ringfence/hal/input"
)

// gate carries out what micgate orders. It alone opens the microphone.
type gate struct {
	m    *machine
	lamp hal.Lamp
	mic  audio.Switch // the codec's own; nil on a board without

	mu      sync.Mutex // guards what follows; held while orders are carried out
	state   micgate.State
	media   *intercom.Conn  // to the warm media process; nil until asked
	params  json.RawMessage // of the call that waits for the gate, nil without
	running bool            // media has the descriptors
	stats   json.RawMessage // what the last media process measured
}

var errGate = errors.New("the microphone stays closed: handset on hook, nobody acted, or no verified configuration")

// openGate opens the hook line, the keys and the lamp and begins to watch.
func (m *machine) openGate(context.Context) error {
	lamp, err := m.board.OpenMicLamp()
	if err != nil {
		return err
	}
	hook, err := m.board.OpenHook()
	if err != nil {
		return err
	}
	keys, err := m.board.OpenKeys()
	if err != nil {
		return err
	}
	mic, err := m.board.OpenMicSwitch()
	if errors.Is(err, hal.ErrAbsent) {
		m.log.Warn("the codec has no microphone switch: mute is media's alone")
	} else if err != nil {
		return err
	}
	m.gate = &gate{m: m, lamp: lamp, mic: mic}
	if err := m.gate.route(false); err != nil {
		return err
	}
	lifted, err := hook.State(input.SwitchHook)
	if err != nil {
		return fmt.Errorf("read hook: %w", err)
	}
	if lifted {
		m.gate.hook(true)
	}
	m.work.Go(func() { m.gate.watch(hook) })
	m.work.Go(func() { m.gate.watch(keys) })
	return nil
}

// watch turns what a person did into gate events.
func (g *gate) watch(src input.Source) {
	for {
		e, err := src.Next()
		if err != nil {
			g.m.log.Error("input lost", "error", err)
			g.hook(false) // an unknown hook is an on hook
			return
		}
		switch {
		case e.Kind == input.Switch && e.Code == input.SwitchHook:
			g.hook(e.On)
		case e.Kind == input.Resync:
			if on, err := src.State(input.SwitchHook); err == nil {
				g.hook(on)
			}
		case e.Kind == input.Key && e.On:
			g.key(e.Code)
		}
	}
}

func (g *gate) key(c input.Code) {
	switch c {
	case input.KeyEnter, input.KeyKPEnter:
		g.step(micgate.CallKey)
	case input.KeyS:
		g.step(micgate.SpeakerKey)
	case input.KeyM, input.KeyMute:
		g.step(micgate.MuteKey)
	}
}

func (g *gate) hook(lifted bool) {
	event := micgate.HookReplaced
	if lifted {
		event = micgate.HookLifted
	}
	g.step(event)
	g.m.log.Info("hook", "off", lifted)
	g.m.hub.mu.Lock()
	defer g.m.hub.mu.Unlock()
	g.m.hub.offHook = lifted
	g.m.hub.tell(verbHook, hookMessage{lifted}, uidUI, uidCall)
}

// step passes an event to the gate and carries out its orders.
func (g *gate) step(e micgate.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stepLocked(e)
}

func (g *gate) stepLocked(e micgate.Event) {
	before := g.state
	next, orders := g.state.Step(e)
	g.state = next
	for _, o := range orders {
		if err := g.obey(o); err != nil {
			g.m.log.Error("gate", "error", err)
		}
	}
	if before.IsOpen() != next.IsOpen() || before.Muted() != next.Muted() {
		g.m.log.Info("mic", "open", next.IsOpen(), "muted", next.Muted())
		g.m.hub.Tell(verbMic, micMessage{next.IsOpen(), next.Muted()}, uidUI, uidCall)
	}
}

func (g *gate) obey(o micgate.Order) error {
	switch o {
	case micgate.LampOn:
		return g.lamp.Set(true)
	case micgate.LampOff:
		return g.lamp.Set(false)
	case micgate.Open:
		return g.pass()
	case micgate.Close:
		return g.close()
	case micgate.Silence, micgate.Unsilence:
		return g.silence(o == micgate.Silence)
	}
	return fmt.Errorf("unknown order %d", o)
}

// pass opens the audio devices and passes them to the media process. Init's
// own descriptors are closed at once: media holds the only ones.
func (g *gate) pass() error {
	if g.params == nil {
		return errors.New("gate opened without a call")
	}
	capture, err := g.m.board.OpenCapture()
	if err != nil {
		return err
	}
	defer capture.Close()
	playback, err := g.m.board.OpenPlayback()
	if err != nil {
		return err
	}
	defer playback.Close()
	c, err := g.conn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(g.m.ctx, 3*time.Second)
	defer cancel()
	if err := c.Call(ctx, verbStart, g.params, nil, capture, playback); err != nil {
		return err
	}
	g.running = true
	return nil
}

// close ends the media process, whatever it thinks of that; a fresh one
// without descriptors follows.
func (g *gate) close() error {
	if g.running { // what it measured, if it says so at once
		ctx, cancel := context.WithTimeout(g.m.ctx, lastWords)
		g.stats = g.lastStats(ctx)
		cancel()
	}
	g.running = false
	if g.media != nil {
		_ = g.media.Close() // its process is about to go
		g.media = nil
	}
	return errors.Join(g.m.sup.Kill(roleMedia), g.route(false))
}

// silence turns the codec's switch, which media cannot reach, and tells media,
// which then sends silence without the codec's noise. It comes before Open too.
func (g *gate) silence(on bool) error {
	err := g.route(!on)
	c, connErr := g.conn()
	if connErr != nil {
		return errors.Join(err, connErr)
	}
	return errors.Join(err, c.Notify(verbSilence, micMessage{Muted: on}))
}

// route lets the microphone through to the codec's converter, or not.
func (g *gate) route(on bool) error {
	if g.mic == nil {
		return nil
	}
	if err := g.mic.Set(on); err != nil {
		return err
	}
	g.m.log.Info("codec", "microphone", on)
	return nil
}

// conn returns the connection to the media process.
func (g *gate) conn() (*intercom.Conn, error) {
	if g.media != nil {
		select {
		case <-g.media.Done():
			g.media = nil
		default:
			return g.media, nil
		}
	}
	c, err := intercom.Dial(g.m.ctx, socket(roleMedia), uidInit, nil)
	g.media = c
	return c, err
}

// mediaDied is told by the supervisor.
func (g *gate) mediaDied() {
	go func() { // the supervisor waits for nobody; the step below may wait for it
		g.mu.Lock()
		lost := g.running
		g.running = false
		if lost {
			g.stepLocked(micgate.MediaDied)
		}
		g.mu.Unlock()
		if lost {
			g.m.event("media.died", "the media process ended during a call")
			g.m.hub.Tell(verbMediaLost, nil, uidCall)
		}
	}()
}

// mediaRequest answers reserve, start and stop of the call role.
func (m *machine) mediaRequest(ctx context.Context, r *intercom.Request) (any, error) {
	if m.gate == nil {
		return nil, errors.New("the phone has no microphone gate")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	switch r.Verb {
	case verbReserve:
		return m.gate.reserve(ctx)
	case verbStart:
		return nil, m.gate.startCall(r.Body)
	case verbStop:
		return m.gate.stop()
	}
	return nil, fmt.Errorf("unknown verb %q", r.Verb)
}

func (g *gate) reserve(ctx context.Context) (any, error) {
	g.m.hub.mu.Lock()
	config := g.m.hub.config
	g.m.hub.mu.Unlock()
	if config == nil {
		return nil, errors.New("no configuration")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c, err := g.conn()
	if err != nil {
		return nil, err
	}
	var out portMessage
	err = c.Call(ctx, verbReserve, rangeMessage{config.Config.Media.PortMin, config.Config.Media.PortMax}, &out)
	return out, err
}

// startCall keeps the parameters and asks the gate; a gate that stays closed
// refuses the call.
func (g *gate) startCall(params json.RawMessage) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.params = params
	g.stepLocked(micgate.CallActive)
	if !g.running {
		g.stepLocked(micgate.CallEnded)
		g.params = nil
		return errGate
	}
	return nil
}

// stop ends the media process of the call and returns what it measured.
func (g *gate) stop() (any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wasOpen := g.state.IsOpen()
	g.stepLocked(micgate.CallEnded) // closes what is open, and asks for the numbers
	stats := g.stats
	g.params, g.stats = nil, nil
	if wasOpen {
		return stats, nil
	}
	return stats, g.close() // a port may be reserved
}

// lastWords is how long the end of a media process waits for its numbers.
const lastWords = 150 * time.Millisecond

func (g *gate) lastStats(ctx context.Context) json.RawMessage {
	c, err := g.conn()
	if err != nil {
		return nil
	}
	var stats json.RawMessage
	if err := c.Call(ctx, verbStop, nil, &stats); err != nil {
		g.m.log.Warn("no numbers from media", "error", err)
	}
	return stats
}
