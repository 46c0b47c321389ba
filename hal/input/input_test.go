package input_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"ringfence/hal/input"
	"ringfence/hal/input/inputtest"
)

func rec(kind, code uint16, value int32) inputtest.Record {
	return inputtest.Record{Type: kind, Code: code, Value: value}
}

func TestDecoder(t *testing.T) {
	press := input.Event{Kind: input.Key, Code: input.Key1, On: true}
	release := input.Event{Kind: input.Key, Code: input.Key1}
	tests := []struct {
		name string
		in   []inputtest.Record
		want []input.Event
	}{
		{"press and release", []inputtest.Record{rec(1, 2, 1), rec(0, 0, 0), rec(1, 2, 0), rec(0, 0, 0)}, []input.Event{press, release}},
		{"auto-repeat left out", []inputtest.Record{rec(1, 2, 1), rec(1, 2, 2), rec(1, 2, 2), rec(1, 2, 0)}, []input.Event{press, release}},
		{"hook", []inputtest.Record{rec(5, 0, 1), rec(5, 0, 0)}, []input.Event{{Kind: input.Switch, On: true}, {Kind: input.Switch}}},
		{"scan codes, pointers and lamps ignored", []inputtest.Record{rec(4, 4, 30), rec(2, 0, 5), rec(17, 0, 1)}, nil},
		{"dropped up to the report", []inputtest.Record{rec(0, 3, 0), rec(1, 2, 1), rec(0, 0, 0), rec(1, 2, 0)}, []input.Event{{Kind: input.Resync}, release}},
	}
	for _, tt := range tests {
		for _, word := range []int{4, 8} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, word*8), func(t *testing.T) {
				d, err := input.NewDecoder(bytes.NewReader(inputtest.Bytes(word, tt.in...)), word)
				if err != nil {
					t.Fatal(err)
				}
				var got []input.Event
				e, err := d.Next()
				for ; err == nil; e, err = d.Next() {
					got = append(got, e)
				}
				if !errors.Is(err, io.EOF) || fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("events = %v, %v, want %v, EOF", got, err, tt.want)
				}
			})
		}
	}
}

func TestDecoderTorn(t *testing.T) {
	whole := inputtest.Bytes(8, rec(1, 2, 1))
	d, err := input.NewDecoder(bytes.NewReader(whole[:20]), 8)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := d.Next(); !errors.Is(err, input.ErrTorn) {
		t.Errorf("Next of 20 bytes = %v, %v, want ErrTorn", e, err)
	}
}

func TestNewDecoderRefuses(t *testing.T) {
	if _, err := input.NewDecoder(nil, 8); err == nil {
		t.Error("NewDecoder(nil, 8) = nil, want an error")
	}
	if _, err := input.NewDecoder(&bytes.Buffer{}, 2); err == nil {
		t.Error("NewDecoder(_, 2) = nil, want an error")
	}
}

func TestDigit(t *testing.T) {
	for code, want := range map[input.Code]rune{2: '1', 10: '9', 11: '0', input.KeyNumStar: '*', input.KeyNumPound: '#'} {
		if got, ok := input.Digit(code); !ok || got != want {
			t.Errorf("Digit(%d) = %q, %v, want %q", code, got, ok, want)
		}
	}
	for _, code := range []input.Code{1, 12, 28, 50} {
		if got, ok := input.Digit(code); ok {
			t.Errorf("Digit(%d) = %q, want none", code, got)
		}
	}
}

func TestPlayedSource(t *testing.T) {
	s := inputtest.New()
	go s.Set(input.SwitchHook, true)
	if e, err := s.Next(); err != nil || e.Kind != input.Switch || !e.On {
		t.Errorf("Next = %v, %v, want the hook lifted", e, err)
	}
	if on, _ := s.State(input.SwitchHook); !on {
		t.Error("State(hook) = false, want true")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(); err == nil {
		t.Error("Next after Close = nil, want an error")
	}
}
