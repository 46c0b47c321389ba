package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

func raw(size int, body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(size)), body...)
}

func TestReadFrame(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want error  // nil: any
		text string // "" is good
	}{
		{"good", raw(11, `{"ping":{}}`), nil, ""},
		{"nothing", nil, io.EOF, "EOF"},
		{"half a head", []byte{0, 0}, io.ErrUnexpectedEOF, "EOF"},
		{"half a body", raw(11, `{"ping"`), io.ErrUnexpectedEOF, "EOF"},
		{"too large", raw(MaxFrame+1, ""), ErrTooLarge, "larger"},
		{"empty", raw(0, ""), nil, "decode frame"},
		{"no message", raw(2, `{}`), nil, "0 messages"},
		{"two messages", raw(20, `{"ping":{},"bye":{}}`), nil, "2 messages"},
		{"unknown field", raw(12, `{"other":{}}`), nil, "unknown field"},
		{"unknown inner field", raw(22, `{"ping":{"more":true}}`), nil, "unknown field"},
		{"two values", raw(13, `{"ping":{}} 1`), nil, "data after"},
	} {
		m, err := ReadFrame(bytes.NewReader(c.in))
		if c.text == "" && (err != nil || m.Ping == nil) || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) ||
			c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: ReadFrame = %+v, %v, want %q", c.name, m, err, c.text)
		}
	}
}

// FuzzReadFrame: what is read can be written, and reads as the same again.
func FuzzReadFrame(f *testing.F) {
	f.Add(raw(11, `{"ping":{}}`))
	f.Add(raw(40, `{"hello":{"protocol":1,"schema":1,"release":"1.0.0"}}`))
	f.Add(raw(60, `{"report":{"events":[{"name":"x","time":"2026-01-01T00:00:00Z"}]}}`))
	f.Add(raw(1<<31, ""))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := ReadFrame(bytes.NewReader(in))
		if err != nil {
			return
		}
		once, err := AppendFrame(nil, m)
		if err != nil {
			if errors.Is(err, ErrTooLarge) {
				return // escaping made it longer
			}
			t.Fatalf("AppendFrame of a message that was read: %v", err)
		}
		again, err := ReadFrame(bytes.NewReader(once))
		if err != nil {
			t.Fatalf("ReadFrame of a frame that was written: %v", err)
		}
		if twice, err := AppendFrame(nil, again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q, %v", once, twice, err)
		}
	})
}
