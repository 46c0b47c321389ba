package audit

import (
	"slices"
	"testing"
	"time"
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

func verify(list []Event) error {
	var v Verifier
	for _, e := range list {
		if err := v.Next(e); err != nil {
			return err
		}
	}
	return nil
}
