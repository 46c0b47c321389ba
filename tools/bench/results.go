package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Result is one benchmark with the median of each of its measurements.
type Result struct {
	Package string             `json:"package"`
	Name    string             `json:"name"` // without "Benchmark" and processor count
	Runs    int                `json:"runs"`
	Values  map[string]float64 `json:"values"` // by unit, e.g. "ns/op"
}

// ErrNone is returned by Parse when the input holds no benchmark line.
var ErrNone = errors.New("no benchmark results in the input")

// Parse reads go test -bench output and joins repeated runs. The results keep
// the order of the input.
func Parse(r io.Reader) ([]Result, error) {
	var order []string
	samples := map[string]map[string][]float64{}
	pkg := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if rest, found := strings.CutPrefix(line, "pkg: "); found {
			pkg = rest
			continue
		}
		name, values, found := parseLine(line)
		if !found {
			continue
		}
		id := pkg + "\n" + name
		if samples[id] == nil {
			samples[id] = map[string][]float64{}
			order = append(order, id)
		}
		for unit, value := range values {
			samples[id][unit] = append(samples[id][unit], value)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read benchmark output: %w", err)
	}
	if len(order) == 0 {
		return nil, ErrNone
	}
	return join(order, samples), nil
}

// parseLine reads "BenchmarkName-2  100  12.5 ns/op  0 allocs/op".
func parseLine(line string) (string, map[string]float64, bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || len(fields)%2 != 0 || !strings.HasPrefix(fields[0], "Benchmark") {
		return "", nil, false
	}
	if _, err := strconv.ParseUint(fields[1], 10, 64); err != nil {
		return "", nil, false
	}
	values := map[string]float64{}
	for i := 2; i < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return "", nil, false
		}
		values[fields[i+1]] = value
	}
	name := strings.TrimPrefix(fields[0], "Benchmark")
	if cut := strings.LastIndexByte(name, '-'); cut > 0 {
		if _, err := strconv.Atoi(name[cut+1:]); err == nil {
			name = name[:cut]
		}
	}
	return name, values, true
}

func join(order []string, samples map[string]map[string][]float64) []Result {
	var results []Result
	for _, id := range order {
		pkg, name, _ := strings.Cut(id, "\n")
		r := Result{Package: pkg, Name: name, Values: map[string]float64{}}
		for unit, values := range samples[id] {
			r.Values[unit] = median(values)
			r.Runs = max(r.Runs, len(values))
		}
		results = append(results, r)
	}
	return results
}

func median(values []float64) float64 {
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}

// Table prints one line per benchmark, ns/op first, other units by name.
func Table(w io.Writer, results []Result) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "package\tbenchmark\truns\tmedian")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", strings.TrimPrefix(r.Package, "ringfence/"), r.Name, r.Runs, describe(r.Values))
	}
	_ = table.Flush() // standard output: nobody is left to tell
}

func describe(values map[string]float64) string {
	units := make([]string, 0, len(values))
	for unit := range values {
		units = append(units, unit)
	}
	slices.SortFunc(units, func(a, b string) int {
		if (a == "ns/op") != (b == "ns/op") {
			if a == "ns/op" {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(units))
	for i, unit := range units {
		parts[i] = strconv.FormatFloat(values[unit], 'g', 6, 64) + " " + unit
	}
	return strings.Join(parts, "  ")
}
