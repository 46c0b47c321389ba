package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// fakeTime reads the environment variable of faketime(1), which the suite uses
// to move a client into the future: libfaketime itself cannot reach a static
// Go program. Forms: "" and "+3d", "-120", "+1.5h" (seconds without a unit),
// and "@2021-02-03 00:00:00" (local time). It returns the offset from now.
func fakeTime(value string, now time.Time) (time.Duration, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, nil
	}
	if text, absolute := strings.CutPrefix(value, "@"); absolute {
		t, err := time.ParseInLocation(time.DateTime, text, time.Local)
		if err != nil {
			return 0, fmt.Errorf("read FAKETIME: %w", err)
		}
		return t.Sub(now), nil
	}
	unit := time.Second
	switch value[len(value)-1] {
	case 'm':
		unit = time.Minute
	case 'h':
		unit = time.Hour
	case 'd':
		unit = 24 * time.Hour
	case 'y':
		unit = 365 * 24 * time.Hour
	}
	n, err := strconv.ParseFloat(strings.TrimRight(value, "mhdy"), 64)
	if err != nil {
		return 0, fmt.Errorf("read FAKETIME %q: %w", value, err)
	}
	return time.Duration(n * float64(unit)), nil
}
