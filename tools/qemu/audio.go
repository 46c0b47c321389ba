package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const (
	audioPath      = "/org/qemu/Display1/Audio"
	audioInterface = "org.qemu.Display1.Audio"
)

// bytesPerFrame of the 16-bit stereo that both directions are fixed to.
const bytesPerFrame = 4

// audio is the peer of QEMU's "dbus" audio backend: it is the microphone and
// the speaker of the board.
type audio struct {
	microphone *Microphone
	speaker    *Speaker
	main       *dbusConn
	serving    sync.WaitGroup
}

// startAudio hands QEMU one end of a connection by QMP and registers a listener
// for each direction. The guest must not run yet.
func startAudio(m *monitor, rates Sound) (*audio, error) {
	near, far, err := dbusPair()
	if err != nil {
		return nil, err
	}
	defer far.Close()
	if err := m.run("getfd", map[string]string{"fdname": "audio"}, nil, int(far.Fd())); err != nil {
		return nil, errors.Join(err, near.Close())
	}
	client := map[string]string{"protocol": "@dbus-display", "fdname": "audio"}
	if err := m.execute("add_client", client); err != nil {
		return nil, errors.Join(err, near.Close())
	}
	a := &audio{microphone: newMicrophone(rates.MicrophoneHz), speaker: newSpeaker(rates.SpeakerHz)}
	if a.main, err = dialDBus(near); err != nil {
		return nil, errors.Join(err, near.Close())
	}
	if err := a.register("RegisterOutListener", a.speaker.handle); err != nil {
		return nil, errors.Join(err, a.abandon())
	}
	if err := a.register("RegisterInListener", a.microphone.handle); err != nil {
		return nil, errors.Join(err, a.abandon())
	}
	a.serving.Go(func() {
		for { // QEMU sends signals that nobody here needs; the pipe must not fill
			if _, err := a.main.receive(); err != nil {
				return
			}
		}
	})
	return a, nil
}

// register calls method with one end of a new connection and serves handle on
// the other.
func (a *audio) register(method string, handle func(*dbusMessage) *dbusMessage) error {
	near, far, err := dbusPair()
	if err != nil {
		return err
	}
	ready := make(chan error, 1)
	a.serving.Go(func() { a.serve(near, handle, ready) })
	if err := a.callWithFD(method, far); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", method, err), near.Close())
	}
	if err := <-ready; err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

func (a *audio) callWithFD(method string, far *os.File) error {
	defer far.Close()
	index := &dbusEncoder{}
	index.uint32(0) // "h": position in the descriptors that came along
	call := &dbusMessage{kind: dbusCall, path: audioPath, iface: audioInterface, member: method, signature: "h", body: index.bytes}
	if err := a.main.send(call, int(far.Fd())); err != nil {
		return err
	}
	for {
		answer, err := a.main.receive()
		switch {
		case err != nil:
			return err
		case answer.reply != call.serial:
		case answer.kind == dbusError:
			return fmt.Errorf("refused: %s", answer.errorName)
		case answer.kind == dbusReturn:
			return nil
		}
	}
}

// serve answers QEMU's calls on one listener connection until it ends.
func (a *audio) serve(near *net.UnixConn, handle func(*dbusMessage) *dbusMessage, ready chan<- error) {
	defer near.Close()
	conn, err := dialDBus(near)
	ready <- err
	if err != nil {
		return
	}
	for {
		call, err := conn.receive()
		if err != nil {
			return
		}
		if call.kind != dbusCall {
			continue
		}
		answer := handle(call)
		if call.flags&dbusNoReply != 0 {
			continue
		}
		answer.kind, answer.flags, answer.reply = dbusReturn, dbusNoReply, call.serial
		if err := conn.send(answer, -1); err != nil {
			return
		}
	}
}

// abandon ends the connection without waiting: QEMU still runs.
func (a *audio) abandon() error { return a.main.conn.Close() }

// close waits for the listeners, which end with QEMU.
func (a *audio) close() {
	_ = a.main.conn.Close() // nothing is buffered on our side
	a.serving.Wait()
}

// common answers the calls that mean the same in both directions.
func common(call *dbusMessage) *dbusMessage {
	if call.member == "GetAll" { // org.freedesktop.DBus.Properties: we have none
		return &dbusMessage{signature: "a{sv}", body: make([]byte, 8)}
	}
	return &dbusMessage{}
}

// enabled reads the arguments of SetEnabled(t id, b enabled).
func enabled(call *dbusMessage) bool {
	d := &dbusDecoder{bytes: call.body}
	d.uint64()
	return d.uint32() == 1 && d.err == nil
}

// frames is how many samples per channel pass in d at rate.
func frames(d time.Duration, rate int) int {
	return int(d * time.Duration(rate) / time.Second)
}
