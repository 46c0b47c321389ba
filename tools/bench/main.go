// Command bench reads the output of go test -bench, prints a table and writes
// the numbers as JSON, the median of repeated runs. It runs no benchmarks. The
// lines are those of the Go benchmark data format
// (golang.org/design/14313-benchmark-format).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("out", "build/bench.json", "JSON file to write")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	results, err := Parse(os.Stdin)
	if err != nil {
		return err
	}
	Table(os.Stdout, results)
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(out, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
