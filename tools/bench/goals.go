package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Goal bounds one measurement. A required one decides the exit status; the
// others are what the project aims for beside its peers, shown for information.
type Goal struct {
	Text      string  `json:"goal"`
	Benchmark string  `json:"benchmark"`
	Unit      string  `json:"unit"`
	Limit     float64 `json:"limit"`
	AtLeast   bool    `json:"at_least"` // the limit is a minimum, else a maximum
	Required  bool    `json:"required"`
}

// Outcome is a goal beside what was measured.
type Outcome struct {
	Goal
	Measured bool    `json:"measured"`
	Value    float64 `json:"value"`
	Met      bool    `json:"met"`
}

// goals in the order of the table.
func goals() []Goal {
	return []Goal{
		{Text: "power-on to registered, enrolled phone alone, s", Benchmark: powerOn, Unit: "registered-s", Limit: 25, Required: true},
		{Text: "SRTP seal+open, allocations per packet, GCM", Benchmark: "SealOpen/ours/gcm256", Unit: "allocs/op", Limit: 0},
		{Text: "SRTP seal+open, allocations per packet, CM", Benchmark: "SealOpen/ours/cm80", Unit: "allocs/op", Limit: 0},
		{Text: "SRTP GCM, instructions / pion with a reused header", Benchmark: "SealOpenInstructions/gcm256", Unit: "x-pion-reused", Limit: 0.80},
		{Text: "SRTP CM, instructions / pion with a reused header", Benchmark: "SealOpenInstructions/cm80", Unit: "x-pion-reused", Limit: 0.95},
		{Text: "SRTP GCM, time / pion with a reused header", Benchmark: "SealOpenRatio/gcm256", Unit: "x-pion-reused", Limit: 0.80},
		{Text: "SRTP GCM, time / bare crypto/cipher", Benchmark: "SealOpenRatio/gcm256", Unit: "x-stdlib", Limit: 1.40},
		{Text: "SRTP CM, time / pion with a reused header", Benchmark: "SealOpenRatio/cm80", Unit: "x-pion-reused", Limit: 0.95},
		{Text: "enrolment, server CPU / TLS 1.3 mutual handshake", Benchmark: "EnrollCPU", Unit: "x-handshake", Limit: 1.25},
		{Text: "enrolment, server CPU / minimal issuing server", Benchmark: "EnrollCPU", Unit: "x-minimal", Limit: 1.25},
	}
}

// Judge finds the measurement of each goal.
func Judge(results []Result, goals []Goal) []Outcome {
	outcomes := make([]Outcome, len(goals))
	for i, g := range goals {
		outcomes[i].Goal = g
		for _, r := range results {
			value, found := r.Values[g.Unit]
			if r.Name != g.Benchmark || !found {
				continue
			}
			outcomes[i].Measured, outcomes[i].Value = true, value
			outcomes[i].Met = value <= g.Limit
			if g.AtLeast {
				outcomes[i].Met = value >= g.Limit
			}
		}
	}
	return outcomes
}

// Missed names the required goals that were not met; one that was not measured
// counts only when all is set.
func Missed(outcomes []Outcome, all bool) (missed []string) {
	for _, o := range outcomes {
		if o.Required && !o.Met && (o.Measured || all) {
			missed = append(missed, o.Text)
		}
	}
	return missed
}

// GoalTable prints one line per goal.
func GoalTable(w io.Writer, outcomes []Outcome) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "goal\tmeasured\twanted\t")
	for _, o := range outcomes {
		sign := "<= "
		if o.AtLeast {
			sign = ">= "
		}
		value, verdict := "-", "not measured"
		if o.Measured {
			value, verdict = strconv.FormatFloat(o.Value, 'g', 4, 64), "met"
			if !o.Met {
				verdict = "not met yet"
			}
			if !o.Met && o.Required {
				verdict = "MISSED"
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s%v\t%s\n", o.Text, value, sign, o.Limit, verdict)
	}
	_ = table.Flush() // standard output: nobody is left to tell
}

// powerOn is the benchmark whose "NAME-s" values are times since power-on.
const powerOn = "PowerOn"

// StageTable prints the stages of a start in the order they were reached, if
// they were measured.
func StageTable(w io.Writer, results []Result) {
	at := slices.IndexFunc(results, func(r Result) bool { return r.Name == powerOn })
	if at < 0 {
		return
	}
	values := results[at].Values
	var stages []string
	for unit := range values {
		if strings.HasSuffix(unit, "-s") {
			stages = append(stages, unit)
		}
	}
	slices.SortFunc(stages, func(a, b string) int { return cmp.Compare(values[a], values[b]) })
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "power-on to\tseconds\tof its own\t")
	last := 0.0
	for _, unit := range stages {
		fmt.Fprintf(table, "%s\t%.2f\t%.2f\t\n", strings.TrimSuffix(unit, "-s"), values[unit], values[unit]-last)
		last = values[unit]
	}
	fmt.Fprintln(table)
	_ = table.Flush() // standard output: nobody is left to tell
}
