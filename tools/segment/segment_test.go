package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/tools/tooltest"
)

// card is the device's end of a port.
type card struct {
	t    *testing.T
	file net.Conn
	got  chan []byte
}

func plug(t *testing.T, s *Segment, name string) *card {
	t.Helper()
	far, err := s.Attach(name)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	file, err := net.FileConn(far)
	if err != nil {
		t.Fatal(err)
	}
	c := &card{t: t, file: file, got: make(chan []byte, 2000)}
	go func() { // ends when the segment closes the connection
		defer close(c.got)
		for {
			var length [4]byte
			if _, err := io.ReadFull(file, length[:]); err != nil {
				return
			}
			frame := make([]byte, binary.BigEndian.Uint32(length[:]))
			if _, err := io.ReadFull(file, frame); err != nil {
				return
			}
			c.got <- frame
		}
	}()
	t.Cleanup(func() { file.Close() })
	return c
}

func (c *card) send(frame []byte) {
	c.t.Helper()
	if _, err := c.file.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		c.t.Fatal(err)
	}
}

// count returns how many frames arrive until it has been quiet for a while.
func (c *card) count() int {
	for n := 0; ; n++ {
		select {
		case <-c.got:
		case <-time.After(150 * time.Millisecond):
			return n
		}
	}
}

func frame(to, from byte, payload string) []byte {
	return append([]byte{2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5}, payload...)
}

func broadcast(from byte) []byte {
	return append(bytes.Repeat([]byte{0xff}, 6), 2, 0, 0, 0, 0, from, 0x88, 0xb5)
}

func newSegment(t *testing.T) *Segment {
	s := New(Config{Seed: 1})
	t.Cleanup(func() { s.Close() })
	return s
}

func TestLearning(t *testing.T) {
	s := newSegment(t)
	a, b, c := plug(t, s, "a"), plug(t, s, "b"), plug(t, s, "c")
	a.send(frame(2, 1, "where is 2"))
	if nb, nc := b.count(), c.count(); nb != 1 || nc != 1 {
		t.Errorf("unknown destination: b got %d, c got %d; want 1, 1", nb, nc)
	}
	b.send(frame(1, 2, "here"))
	if na, nc := a.count(), c.count(); na != 1 || nc != 0 {
		t.Errorf("known destination: a got %d, c got %d; want 1, 0", na, nc)
	}
	c.send(broadcast(3))
	if na, nb, nc := a.count(), b.count(), c.count(); na != 1 || nb != 1 || nc != 0 {
		t.Errorf("broadcast: a, b, c got %d, %d, %d; want 1, 1, 0", na, nb, nc)
	}
}

func TestUnplugForgetsAddresses(t *testing.T) {
	s := newSegment(t)
	a, b := plug(t, s, "a"), plug(t, s, "b")
	b.send(broadcast(2))
	a.count()
	b.file.Close()
	for len(s.Ports()) != 1 {
		time.Sleep(time.Millisecond)
	}
	again := plug(t, s, "b")
	a.send(frame(2, 1, "after a power cycle"))
	if n := again.count(); n != 1 {
		t.Errorf("the port plugged in again got %d frames, want 1", n)
	}
}

func TestRules(t *testing.T) {
	const sent = 1000
	for _, test := range []struct {
		name     string
		rule     Rule
		dropAll  bool
		min, max int
	}{
		{"none", Rule{}, false, sent, sent},
		{"30 % loss", Rule{Loss: 0.3}, false, 650, 750},
		{"all lost", Rule{Loss: 1}, false, 0, 0},
		{"cut", Rule{}, true, 0, 0},
		{"delayed", Rule{Delay: 10 * time.Millisecond, Jitter: 20 * time.Millisecond}, false, sent, sent},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSegment(t)
			a, b := plug(t, s, "a"), plug(t, s, "b")
			if err := s.SetRule("b", test.rule); err != nil {
				t.Fatal(err)
			}
			s.DropAll(test.dropAll)
			for range sent {
				a.send(frame(2, 1, "x"))
			}
			if n := b.count(); n < test.min || n > test.max {
				t.Errorf("%d of %d frames arrived, want %d to %d", n, sent, test.min, test.max)
			}
		})
	}
}

func TestLossIsRepeatable(t *testing.T) {
	var counts []int
	for range 2 {
		s := newSegment(t)
		a, b := plug(t, s, "a"), plug(t, s, "b")
		if err := s.SetRule("b", Rule{Loss: 0.5}); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			a.send(frame(2, 1, "x"))
		}
		counts = append(counts, b.count())
	}
	if counts[0] != counts[1] {
		t.Errorf("same seed, %d and %d frames arrived", counts[0], counts[1])
	}
}

func TestDelay(t *testing.T) {
	s := newSegment(t)
	a, b := plug(t, s, "a"), plug(t, s, "b")
	if err := s.SetRule("b", Rule{Delay: 60 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a.send(frame(2, 1, "x"))
	<-b.got
	if d := time.Since(began); d < 60*time.Millisecond {
		t.Errorf("frame arrived after %v, want 60ms or more", d)
	}
}

func TestRefusals(t *testing.T) {
	s := newSegment(t)
	plug(t, s, "a")
	for name, rule := range map[string]Rule{"loss above 1": {Loss: 1.1}, "negative loss": {Loss: -1}, "negative delay": {Delay: -1}} {
		if err := s.SetRule("a", rule); err == nil {
			t.Errorf("SetRule(%s) = nil", name)
		}
	}
	if err := s.SetRule("nobody", Rule{}); err == nil {
		t.Error("SetRule for a missing port = nil")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attach("late"); !errors.Is(err, ErrClosed) {
		t.Errorf("Attach on a closed segment = %v, want ErrClosed", err)
	}
}

// A length that no Ethernet frame has ends that port, and only that one.
func TestOversizedFrame(t *testing.T) {
	s := newSegment(t)
	a, b, c := plug(t, s, "a"), plug(t, s, "b"), plug(t, s, "c")
	if _, err := a.file.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, open := <-a.got; open {
		t.Error("the port of the oversized frame is still open")
	}
	b.send([]byte("runt"))
	b.send(broadcast(2))
	if n := c.count(); n != 1 {
		t.Errorf("c got %d frames, want 1: the broadcast, not the runt", n)
	}
}

func TestCaptureIsReadable(t *testing.T) {
	tooltest.Need(t, "tshark")
	s := newSegment(t)
	path := filepath.Join(t.TempDir(), "a.pcap")
	if err := s.StartCapture(path); err != nil {
		t.Fatal(err)
	}
	if err := s.StartCapture(path); err == nil {
		t.Error("second StartCapture = nil")
	}
	a, b := plug(t, s, "a"), plug(t, s, "b")
	s.DropAll(true) // what is lost is captured all the same
	a.send(frame(2, 1, "first"))
	a.send(frame(2, 1, "second"))
	b.count()
	if err := s.StopCapture(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tshark", "-r", path, "-T", "fields", "-e", "eth.src", "-e", "data.data", "-e", "frame.len").CombinedOutput()
	if err != nil || strings.Count(string(out), "02:00:00:00:00:01") != 2 || !strings.Contains(string(out), "66697273740") && !strings.Contains(string(out), "6669727374") {
		t.Errorf("tshark reads %q, %v; want two frames from 02:00:00:00:00:01", out, err)
	}
}
