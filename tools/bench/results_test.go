package main

import (
	"errors"
	"strings"
	"testing"
)

const sample = `goos: linux
pkg: ringfence/firmware/media/secure
BenchmarkSeal-2   	 1000	 30.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkSeal-2   	 1000	 10.0 ns/op	 0 B/op	 0 allocs/op
BenchmarkSeal-2   	 1000	 20.0 ns/op	 0 B/op	 1 allocs/op
BenchmarkBoot/to-registered 	 1	 9 ns/op	 24.5 registered-s
PASS
`

func TestParse(t *testing.T) {
	got, err := Parse(strings.NewReader(sample))
	if err != nil || len(got) != 2 {
		t.Fatalf("Parse = %v, %v, want two results", got, err)
	}
	seal, boot := got[0], got[1]
	if seal.Name != "Seal" || seal.Runs != 3 || seal.Values["ns/op"] != 20 || seal.Values["allocs/op"] != 0 {
		t.Errorf("Seal = %+v, want 3 runs with medians 20 ns/op and 0 allocs/op", seal)
	}
	if boot.Name != "Boot/to-registered" || boot.Values["registered-s"] != 24.5 || boot.Package != "ringfence/firmware/media/secure" {
		t.Errorf("Boot = %+v", boot)
	}
	var table strings.Builder
	Table(&table, got)
	if !strings.Contains(table.String(), "20 ns/op  0 B/op  0 allocs/op") {
		t.Errorf("Table = %q", table.String())
	}
}

func TestParseNothing(t *testing.T) {
	for _, in := range []string{"", "PASS\n", "BenchmarkX-2 ten 3 ns/op\n", "BenchmarkX-2 10 3\n"} {
		if got, err := Parse(strings.NewReader(in)); !errors.Is(err, ErrNone) {
			t.Errorf("Parse(%q) = %v, %v, want ErrNone", in, got, err)
		}
	}
}
