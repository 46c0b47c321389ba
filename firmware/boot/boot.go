// Package boot runs the phone's boot list: named steps in order, each stating
// what its failure means. One function decides; no step decides for itself.
// It knows nothing of what the steps do.
package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Policy says what the failure of a step means.
type Policy int

// The zero Policy is the strictest.
const (
	Halt    Policy = iota // the phone goes no further than its screen
	Degrade               // the phone goes on without it, and says so
)

// String returns "halt" or "degrade".
func (p Policy) String() string {
	if p == Degrade {
		return "degrade"
	}
	return "halt"
}

// Step is one entry of the boot list.
type Step struct {
	Name      string
	Stage     string // stage that is reached when the step succeeds; "" for none
	OnFailure Policy
	Run       func(context.Context) error
}

// Config says how Run reports. Both fields are required.
type Config struct {
	Log *slog.Logger
	// Stage is told of each stage that is reached, at the time it is.
	Stage func(name string)
}

// HaltError says which step stopped the boot.
type HaltError struct {
	Step string
	Err  error
}

// Error names the step and its cause.
func (e *HaltError) Error() string { return fmt.Sprintf("boot halted at %s: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *HaltError) Unwrap() error { return e.Err }

// Run runs the steps in order. It returns the names of the steps that failed
// and were passed over; the error is a *HaltError, after which nothing more was run.
func Run(ctx context.Context, cfg Config, steps []Step) (degraded []string, err error) {
	if cfg.Log == nil || cfg.Stage == nil {
		return nil, errors.New("boot: no logger or stage function")
	}
	for _, s := range steps {
		start := time.Now()
		err := s.Run(ctx)
		took := time.Since(start).Round(time.Millisecond)
		switch {
		case err == nil:
			cfg.Log.Debug("step", "name", s.Name, "took", took)
			if s.Stage != "" {
				cfg.Stage(s.Stage)
			}
		case s.OnFailure == Degrade:
			cfg.Log.Warn("degraded", "step", s.Name, "error", err)
			degraded = append(degraded, s.Name)
		default:
			cfg.Log.Error("halted", "step", s.Name, "error", err)
			return degraded, &HaltError{s.Name, err}
		}
	}
	return degraded, nil
}
