package audit

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestChain(t *testing.T) {
	var list []Event
	var last Event
	for _, name := range []string{"one", "two", "three"} {
		e, err := Chain(last, Event{Name: name, Time: time.Unix(1, 5), Detail: "é"})
		if err != nil {
			t.Fatal(err)
		}
		list, last = append(list, e), e
	}
	for name, edit := range map[string]func([]Event) []Event{
		"altered": func(l []Event) []Event { l[1].Detail = "x"; return l },
		"removed": func(l []Event) []Event { return slices.Delete(l, 1, 2) },
		"moved":   func(l []Event) []Event { l[0], l[1] = l[1], l[0]; return l },
		"renumbered": func(l []Event) []Event {
			l = slices.Delete(l, 0, 1)
			l[0].Seq = 1
			return l
		},
	} {
		if verify(edit(slices.Clone(list))) == nil {
			t.Errorf("a list with an entry %s verifies", name)
		}
	}
	if err := verify(list); err != nil {
		t.Errorf("good list: %v", err)
	}
}

// TestHostileText: what a stranger can make us write neither breaks the chain
// on its way through JSON nor leaves its line.
func TestHostileText(t *testing.T) {
	for _, text := range []string{"/\xff", strings.Repeat("\xff", 1000), strings.Repeat("é", 3000), "x" + strings.Repeat("é", 3000),
		"a\nb\r\x1b[2J\u009b2J\u202e", "\ufffd", strings.Repeat("z", 1<<20)} {
		e, err := Chain(Event{}, Event{Actor: text, Name: text, Subject: text, Detail: text})
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]string{"actor": e.Actor, "name": e.Name, "subject": e.Subject, "detail": e.Detail} {
			if len(got) > MaxDetail || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s of %.20q is %d bytes: %.40q", name, text, len(got), got)
			}
		}
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Event
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		if err := verify([]Event{back}); err != nil {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func verify(list []Event) error {
	var v Verifier
	for _, e := range list {
		if err := v.Next(e); err != nil {
			return err
		}
	}
	return nil
}
