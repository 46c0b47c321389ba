// Command bench reads the output of go test -bench, prints a table and how far
// each goal was reached, and writes both as JSON, the median of repeated runs.
// Its exit status is 1 when a required goal was missed. It runs no benchmarks.
// The lines are those of the Go benchmark data format
// (golang.org/design/14313-benchmark-format).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	out := flag.String("out", "build/bench.json", "JSON file to write")
	all := flag.Bool("all", false, "a required goal that was not measured is missed")
	flag.Parse()
	if err := run(*out, *all); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// report is the JSON file.
type report struct {
	Results []Result  `json:"results"`
	Goals   []Outcome `json:"goals"`
}

func run(out string, all bool) error {
	results, err := Parse(os.Stdin)
	if err != nil {
		return err
	}
	outcomes := Judge(results, goals())
	Table(os.Stdout, results)
	fmt.Println()
	StageTable(os.Stdout, results)
	GoalTable(os.Stdout, outcomes)
	data, err := json.MarshalIndent(report{results, outcomes}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(out, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if missed := Missed(outcomes, all); len(missed) > 0 {
		return fmt.Errorf("missed: %s", strings.Join(missed, "; "))
	}
	return nil
}
