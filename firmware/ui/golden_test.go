package ui

import (
	"flag"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the pictures in testdata anew; look at them before you commit")

func TestPages(t *testing.T) {
	up := Status{
		Time: time.Date(2026, 3, 9, 14, 5, 0, 0, time.UTC), Line: "100", Label: "Example Hospital",
		Registered: true, Proven: true,
	}
	lost := up
	lost.Registered = false
	active := Call{Phase: Active, Peer: "sip:101@ringfence.test", Name: "Ward 7", Cipher: "AEAD_AES_256_GCM", Codec: "G722"}
	tests := []struct {
		name   string
		events []Event
	}{
		{"start", nil},
		{"idle", one(up)},
		{"unregistered", one(lost)},
		{"dialling", join(one(up, Hook{true}), keys("101"))},
		{"incoming", one(up, Call{Phase: Incoming, Peer: "sip:101@ringfence.test", Name: "Ward 7"})},
		{"outgoing", one(up, Call{Phase: Outgoing, Peer: "sip:101@ringfence.test"})},
		{"active", one(up, active)},
		{"muted", one(up, active, Muted{true})},
		{"unprotected", one(up, Call{Phase: Active, Peer: "101"})},
		{"ended", one(up, active, Call{Reason: "peer hung up"})},
		{"fault", one(Fault{What: "This phone could not prove what software it runs.", Do: "Call your administrator and say: measurement of the kernel differs."})},
		{"long", one(up, Call{Phase: Incoming, Name: strings.Repeat("W", 90), Peer: strings.Repeat("sip", 40)})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUI(t)
			for _, e := range tt.events {
				u.Handle(e)
			}
			golden(t, filepath.Join("testdata", tt.name+".png"), u.Draw())
		})
	}
}

// TestGoldenNotices: the comparison must see a page that differs.
func TestGoldenNotices(t *testing.T) {
	u := newUI(t)
	before := image.NewRGBA(u.Draw().Rect)
	draw.Draw(before, before.Rect, u.Draw(), image.Point{}, draw.Src)
	u.Handle(KeyPressed{'1'})
	if n := differing(before, u.Draw()); n < 100 {
		t.Errorf("%d pixels differ between two pages, want at least 100", n)
	}
}

func golden(t *testing.T, name string, got *image.RGBA) {
	t.Helper()
	if *update {
		file, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(file, got); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoded, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	want := image.NewRGBA(decoded.Bounds())
	draw.Draw(want, want.Rect, decoded, decoded.Bounds().Min, draw.Src)
	if want.Rect != got.Rect {
		t.Fatalf("%s is %v, drawn %v", name, want.Rect, got.Rect)
	}
	if n := differing(want, got); n > 0 {
		t.Errorf("%d pixels differ from %s", n, name)
	}
}

// differing counts pixels that differ visibly: processors round the edges of
// letters differently by a step or two.
func differing(a, b *image.RGBA) int {
	n := 0
	for i := 0; i < len(a.Pix); i += 4 {
		for j := range 4 {
			if d := int(a.Pix[i+j]) - int(b.Pix[i+j]); d > 4 || d < -4 {
				n++
				break
			}
		}
	}
	return n
}
