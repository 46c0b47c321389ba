package main

import (
	"slices"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	most := Goal{Text: "most", Benchmark: "A", Unit: "s", Limit: 25, Required: true}
	least := Goal{Text: "least", Benchmark: "A", Unit: "rate", Limit: 10, AtLeast: true, Required: true}
	wish := Goal{Text: "wish", Benchmark: "A", Unit: "s", Limit: 1}
	for _, c := range []struct {
		name   string
		values map[string]float64
		all    bool
		missed []string
	}{
		{"met", map[string]float64{"s": 25, "rate": 10}, true, nil},
		{"too slow", map[string]float64{"s": 25.1, "rate": 10}, true, []string{"most"}},
		{"too few", map[string]float64{"s": 1, "rate": 9}, false, []string{"least"}},
		{"not measured", map[string]float64{"s": 1}, true, []string{"least"}},
		{"not asked for", map[string]float64{"s": 1}, false, nil},
		{"nothing", nil, true, []string{"most", "least"}},
	} {
		results := []Result{{Name: "A", Values: c.values}, {Name: "B", Values: map[string]float64{"s": 99}}}
		outcomes := Judge(results, []Goal{most, least, wish})
		if got := Missed(outcomes, c.all); !slices.Equal(got, c.missed) {
			t.Errorf("%s: Missed = %q, want %q", c.name, got, c.missed)
		}
	}
}

func TestGoalTable(t *testing.T) {
	var text strings.Builder
	GoalTable(&text, Judge([]Result{{Name: "A", Values: map[string]float64{"s": 30}}}, []Goal{
		{Text: "required", Benchmark: "A", Unit: "s", Limit: 25, Required: true},
		{Text: "wanted", Benchmark: "A", Unit: "s", Limit: 25},
		{Text: "absent", Benchmark: "B", Unit: "s", Limit: 25},
	}))
	for i, want := range []string{"goal", "MISSED", "not met yet", "not measured"} {
		if line := strings.Split(text.String(), "\n")[i]; !strings.Contains(line, want) {
			t.Errorf("line %d = %q, want %q in it", i, line, want)
		}
	}
}

// A goal that stood twice, or named nothing, would say less than it seems to.
func TestGoalsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range goals() {
		key := g.Benchmark + " " + g.Unit
		if seen[key] || g.Text == "" || g.Benchmark == "" || g.Unit == "" {
			t.Errorf("goal %+v is incomplete or stands twice", g)
		}
		seen[key] = true
	}
}

func TestStageTable(t *testing.T) {
	var text strings.Builder
	StageTable(&text, []Result{{Name: "PowerOn", Values: map[string]float64{"registered-s": 12.5, "firmware-s": 7, "ns/op": 0}}})
	want := "power-on to  seconds  of its own  \nfirmware     7.00     7.00        \nregistered   12.50    5.50        \n\n"
	if text.String() != want {
		t.Errorf("StageTable = %q, want %q", text.String(), want)
	}
}
