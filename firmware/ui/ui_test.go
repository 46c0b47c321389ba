package ui

import (
	"fmt"
	"image"
	"strings"
	"testing"
)

func newUI(t *testing.T) *UI {
	t.Helper()
	u, err := New(Config{Emergency: []string{"112", "911"}})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func keys(text string) []Event {
	var events []Event
	for _, r := range text {
		events = append(events, KeyPressed{Key(r)})
	}
	return events
}

func join(parts ...[]Event) []Event {
	var all []Event
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func one(e ...Event) []Event { return e }

func TestCommands(t *testing.T) {
	up := one(Status{Registered: true, Proven: true, Line: "100"})
	fault := one(Fault{What: "broken", Do: "call"})
	tests := []struct {
		name   string
		events []Event
		want   []Command
	}{
		{"dial", join(up, keys("101\r")), []Command{{Dial, "101"}}},
		{"dial off hook", join(up, one(Hook{true}), keys("101\r")), []Command{{Dial, "101"}}},
		{"correct and dial", join(up, keys("1055\b\b1\r")), []Command{{Dial, "101"}}},
		{"cleared", join(up, keys("101\x1b\r")), nil},
		{"handset down clears", join(up, one(Hook{true}), keys("101"), one(Hook{false}), keys("\r")), nil},
		{"nothing to dial", join(up, keys("\r\b")), nil},
		{"not registered", keys("101\r"), nil},
		{"R54 not registered", keys("112\r"), []Command{{Dial, "112"}}},
		{"fault", join(up, fault, keys("101\r")), nil},
		{"R54 fault", join(fault, keys("911\r")), []Command{{Dial, "911"}}},
		{"answer by key", join(up, one(Call{Phase: Incoming}), keys("\r")), []Command{{Action: Answer}}},
		{"answer by hook", join(up, one(Call{Phase: Incoming}, Hook{true})), []Command{{Action: Answer}}},
		{"R41 handset was off", join(up, one(Hook{true}, Call{Phase: Incoming})), nil},
		{"R41 answered elsewhere", join(up, one(Call{Phase: Active})), nil},
		{"refuse", join(up, one(Call{Phase: Incoming}), keys("\x1b")), []Command{{Action: Hangup}}},
		{"handset down while it rings", join(up, one(Hook{true}, Call{Phase: Incoming}, Hook{false})), nil},
		{"hang up by hook", join(up, one(Hook{true}, Call{Phase: Active}, Hook{false})), []Command{{Action: Hangup}}},
		{"cancel", join(up, one(Call{Phase: Outgoing}), keys("\x1b")), []Command{{Action: Hangup}}},
		{"mute", join(up, one(Call{Phase: Active}), keys("m")), []Command{{Action: Mute}}},
		{"mute without a call", join(up, keys("m")), nil},
		{"speaker", join(up, keys("s")), []Command{{Action: Speaker}}},
		{"tones", join(up, one(Call{Phase: Active}), keys("1#")), []Command{{Tone, "1"}, {Tone, "#"}}},
		{"digits while it rings", join(up, one(Call{Phase: Incoming}), keys("12")), nil},
		{"second number while calling", join(up, one(Call{Phase: Outgoing}), keys("12\r")), nil},
		{"number is bounded", join(up, keys(strings.Repeat("1", 60)+"\r")), []Command{{Dial, strings.Repeat("1", MaxNumber)}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := newUI(t)
			var got []Command
			for _, e := range tt.events {
				got = append(got, u.Handle(e)...)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("commands = %v, want %v", got, tt.want)
			}
		})
	}
}

// TestR44Clean: a stranger's name must not look like something else.
func TestR44Clean(t *testing.T) {
	tests := []struct {
		in    string
		limit int
		want  string
	}{
		{"Anna Muster", 32, "Anna Muster"},
		{"  a \r\n\t b  ", 32, "a b"},
		{"a\u202eb\u200bc\u0000d", 32, "abcd"},
		{"e\u0301\u0301\u0301", 32, "e"},
		{"\xff\xfeok", 32, "ok"},
		{strings.Repeat("x", 100), 5, "xxxxx"},
		{"ab cd", 2, "ab"},
		{"ÄÖÜ", 2, "ÄÖ"},
		{"", 5, ""},
	}
	for _, tt := range tests {
		if got := clean(tt.in, tt.limit); got != tt.want {
			t.Errorf("clean(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{
		{},
		{Size: image.Pt(100, 100), Emergency: []string{"112"}},
		{Size: image.Pt(480, 9999), Emergency: []string{"112"}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("New(%+v) = nil, want an error", c)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\u202eb  c", 3)
	f.Fuzz(func(t *testing.T, in string, limit int) {
		limit %= 100
		if limit < 0 {
			limit = -limit
		}
		got := clean(in, limit)
		if n := len([]rune(got)); n > limit {
			t.Errorf("clean(%q, %d) has %d characters", in, limit, n)
		}
		if strings.ContainsAny(got, "\r\n\t\u202e\u0000") {
			t.Errorf("clean(%q, %d) = %q", in, limit, got)
		}
	})
}
