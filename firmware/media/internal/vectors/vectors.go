// Package vectors finds the ITU-T reference vectors for the codec tests. They
// are not part of the repository: a test without them skips and says so. It
// reads files only and is imported by tests alone.
package vectors

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// Read returns shared/testdata/name, looked for beside the repository and above.
func Read(t *testing.T, name string) []byte {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		b, err := os.ReadFile(filepath.Join(dir, "shared", "testdata", filepath.FromSlash(name)))
		if err == nil {
			return b
		}
	}
	t.Skipf("SKIPPED, NOT TESTED: reference vector %s is missing from ../shared/testdata", name)
	return nil
}

// PCM is Read for little-endian 16-bit words.
func PCM(t *testing.T, name string) []int16 {
	t.Helper()
	b := Read(t, name)
	out := make([]int16, len(b)/2)
	for i := range out {
		out[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return out
}
