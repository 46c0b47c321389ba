// Command testlog reads the stream of go test -json and prints what a person
// wants of it: go test's own line per package as it comes, the output of what
// failed, every skipped test by name, and go test's lines once more at the end.
// It runs no tests. Its exit status is 1 when anything failed, was cut off, or
// when nothing ran. The stream is described by "go doc test2json".
package main

import (
	"fmt"
	"os"
)

func main() {
	ok, err := Summarize(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}
