package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/provisioning/rollout"
	"ringfence/provisioning/wire/device"
)

func TestParseRing(t *testing.T) {
	for _, c := range []struct {
		in   string
		want rollout.Ring
		err  string
	}{
		{"canary=20", rollout.Ring{Name: "canary", Count: 20}, ""},
		{"rest=100%", rollout.Ring{Name: "rest", Percent: 100}, ""},
		{"lab=RF-0001,RF-0002", rollout.Ring{Name: "lab", Devices: []device.ID{"RF-0001", "RF-0002"}}, ""},
		{"lab", rollout.Ring{}, "no '='"},
		{"lab=RF-0001,", rollout.Ring{}, "want NAME=COUNT"},
	} {
		got, err := parseRing(c.in)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("parseRing(%q) = %v, want error %q", c.in, err, c.err)
		}
		if err == nil && (got.Name != c.want.Name || got.Count != c.want.Count || got.Percent != c.want.Percent || len(got.Devices) != len(c.want.Devices)) {
			t.Errorf("parseRing(%q) = %+v, want %+v", c.in, got, c.want)
		}
	}
}

// TestBars: on a terminal there is a bar per ring; elsewhere nothing.
func TestBars(t *testing.T) {
	near, path := openPTY(t)
	terminal, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 120}); err != nil {
		t.Fatal(err)
	}
	b := newBars(t.Context(), terminal)
	b.show(&rollout.View{Rings: []rollout.Tally{{Name: "canary", Size: 4, Committed: 2, Told: 1, Waiting: 1}, {Name: "rest", Size: 9, Waiting: 9}}})
	time.Sleep(time.Second)
	b.end()
	if err := near.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 64<<10)
	n, err := near.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"canary", "2 committed, 1 updating", "rest"} {
		if !bytes.Contains(text[:n], []byte(want)) {
			t.Errorf("the terminal shows %q, want %q in it", text[:n], want)
		}
	}
	var quiet bytes.Buffer
	b = newBars(t.Context(), &quiet)
	b.show(&rollout.View{Rings: []rollout.Tally{{Name: "rest", Size: 9}}})
	b.end()
	if quiet.Len() > 0 {
		t.Errorf("without a terminal: %q", quiet.String())
	}
}
