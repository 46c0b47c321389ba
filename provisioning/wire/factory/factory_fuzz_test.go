package factory

import (
	"bufio"
	"bytes"
	"testing"
)

// FuzzRead: what comes over the serial line is refused or is a message that
// can be sent again.
func FuzzRead(f *testing.F) {
	f.Add([]byte("RF1 {}\n"))
	f.Add([]byte("noise\r\nRF1 {\"x\":1}\n"))
	f.Add(bytes.Repeat([]byte("a"), 100000))
	f.Fuzz(func(t *testing.T, in []byte) {
		if m, err := Read(bufio.NewReader(bytes.NewReader(in))); err == nil {
			if err := Write(new(bytes.Buffer), m); err != nil {
				t.Fatalf("Write of a message that was read: %v", err)
			}
		}
		if m, err := ParseManifest(in); err == nil && m == nil {
			t.Fatal("no manifest and no error")
		}
	})
}
