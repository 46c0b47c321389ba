package boot

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
)

func TestRun(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name     string
		policy   Policy
		fail     error
		ran      []string
		stages   []string
		degraded []string
		halted   string
	}{
		{"all well", Halt, nil, []string{"a", "b", "c"}, []string{"one", "two"}, nil, ""},
		{"halt stops the list", Halt, boom, []string{"a", "b"}, []string{"one"}, nil, "b"},
		{"degrade goes on without the stage", Degrade, boom, []string{"a", "b", "c"}, []string{"one"}, []string{"b"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var ran, stages []string
			step := func(name, stage string, p Policy, err error) Step {
				return Step{name, stage, p, func(context.Context) error { ran = append(ran, name); return err }}
			}
			cfg := Config{Log: slog.New(slog.DiscardHandler), Stage: func(s string) { stages = append(stages, s) }}
			degraded, err := Run(t.Context(), cfg, []Step{
				step("a", "one", Halt, nil), step("b", "two", tt.policy, tt.fail), step("c", "", Halt, nil)})
			var halt *HaltError
			got := ""
			if errors.As(err, &halt) {
				got = halt.Step
			}
			if got != tt.halted || (tt.halted != "" && !errors.Is(err, boom)) {
				t.Errorf("Run halted at %q (%v), want %q", got, err, tt.halted)
			}
			if !reflect.DeepEqual(ran, tt.ran) || !reflect.DeepEqual(stages, tt.stages) || !reflect.DeepEqual(degraded, tt.degraded) {
				t.Errorf("Run ran %v, stages %v, degraded %v, want %v, %v, %v", ran, stages, degraded, tt.ran, tt.stages, tt.degraded)
			}
		})
	}
}

func TestZeroPolicyHalts(t *testing.T) {
	var s Step
	if s.OnFailure != Halt {
		t.Errorf("zero policy is %v, want halt", s.OnFailure)
	}
}
