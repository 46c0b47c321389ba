package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"ringfence/firmware/intercom"
	"ringfence/firmware/media"
	"ringfence/hal/audio"
	"ringfence/hal/audio/alsa"
)

// mediaRole is a warm media process: it has no device until init passes two
// descriptors, and it carries at most one call in its life.
type mediaRole struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	conn    *net.UDPConn
	session *media.Session
	muted   bool // as init said last
	cancel  context.CancelFunc
	ended   chan struct{}
}

func runMedia(ctx context.Context, _ []string) error {
	l, err := intercom.Inherited(listenFD, roleMedia)
	if err != nil {
		return err
	}
	r := &mediaRole{log: newLog(os.Stderr, roleMedia)}
	return intercom.Serve(ctx, l, []int{uidInit}, r.handle, nil)
}

func (r *mediaRole) handle(ctx context.Context, q *intercom.Request) (any, error) {
	files := q.Files
	defer func() {
		for _, f := range files {
			_ = f.Close() // the drivers took over those they use
		}
	}()
	switch q.Verb {
	case verbReserve:
		var in rangeMessage
		if err := q.Decode(&in); err != nil {
			return nil, err
		}
		return r.reserve(in)
	case verbStart:
		var p media.Params
		if err := q.Decode(&p); err != nil {
			return nil, err
		}
		if len(files) != 2 {
			return nil, fmt.Errorf("%d descriptors, want capture and playback", len(files))
		}
		capture, playback := files[0], files[1]
		files = nil
		return nil, r.start(ctx, p, capture, playback)
	case verbSilence:
		return decode(q, func(in micMessage) error { r.silence(in.Muted); return nil })
	case verbStop:
		return r.stop()
	}
	return nil, fmt.Errorf("unknown verb %q", q.Verb)
}

// reserve binds an even port of the range (RFC 3550 section 11).
func (r *mediaRole) reserve(in rangeMessage) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		return portOfConn(r.conn), nil
	}
	for port := in.Min + in.Min%2; port <= in.Max && port >= in.Min; port += 2 {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(port)})
		if err == nil {
			r.conn = c
			return portOfConn(c), nil
		}
	}
	return nil, fmt.Errorf("no free port from %d to %d", in.Min, in.Max)
}

func portOfConn(c *net.UDPConn) portMessage {
	return portMessage{c.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
}

// start takes over both files.
func (r *mediaRole) start(ctx context.Context, p media.Params, capture, playback *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil || r.session != nil {
		return errors.Join(errors.New("no port was reserved, or a call is running"), capture.Close(), playback.Close())
	}
	in, err := alsa.OpenCapture(capture, audio.Wideband())
	if err != nil {
		return errors.Join(err, playback.Close())
	}
	out, err := alsa.OpenPlayback(playback, audio.Wideband())
	if err != nil {
		return errors.Join(err, in.Close())
	}
	p.Mute = p.Mute || r.muted
	s, err := media.NewSession(p)
	if err != nil {
		return errors.Join(err, in.Close(), out.Close())
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // outlives the request; ended by stop or init
	r.session, r.cancel, r.ended = s, cancel, make(chan struct{})
	go func() {
		stats, err := s.Run(run, r.conn, in, out)
		err = errors.Join(err, in.Close(), out.Close())
		r.log.Info("call ended", "stats", stats, "error", err)
		close(r.ended)
		if run.Err() == nil {
			os.Exit(1) // not asked for: init must learn that the media is lost
		}
	}()
	return nil
}

func (r *mediaRole) silence(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.muted = on
	if r.session != nil {
		r.session.SetMute(on)
	}
}

func (r *mediaRole) stop() (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session == nil {
		return media.Stats{}, nil
	}
	r.cancel()
	<-r.ended
	return r.session.Stats(), nil
}
