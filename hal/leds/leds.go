// Package leds drives indicator lamps through the kernel's LED class. It has
// no patterns and no timers.
//
// Source: Linux Documentation/leds/leds-class.rst.
package leds

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ringfence/hal"
)

// Lamp is one LED. It is safe for concurrent use.
type Lamp struct{ brightness string }

var _ hal.Lamp = (*Lamp)(nil)

// Open returns the lamp at a path below /sys/class/leds, dark.
func Open(path string) (*Lamp, error) {
	l := &Lamp{filepath.Join(path, "brightness")}
	err := l.Set(false)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("lamp %s: %w", filepath.Base(path), hal.ErrAbsent)
	}
	return l, err
}

// Set lights or darkens the lamp.
func (l *Lamp) Set(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	f, err := os.OpenFile(l.brightness, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set lamp: %w", err)
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
