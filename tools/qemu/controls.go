package qemu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keyPause lets a guest that polls its keyboard see each key alone.
const keyPause = 80 * time.Millisecond

// Console returns the serial console.
func (m *Machine) Console() *Console { return m.console }

// Microphone returns what the board hears.
func (m *Machine) Microphone() *Microphone { return m.audio.microphone }

// Speaker returns what the board plays.
func (m *Machine) Speaker() *Speaker { return m.audio.speaker }

// Started is when the emulator was started: power-on.
func (m *Machine) Started() time.Time { return m.started }

// Pid is the process id of the emulator, also its process group.
func (m *Machine) Pid() int { return m.emulator.Process.Pid }

// Key presses and releases keys one after another, by QEMU's names (QKeyCode:
// "1", "ret", "esc", "m", ...).
func (m *Machine) Key(ctx context.Context, names ...string) error {
	for _, name := range names {
		keys := map[string]any{"keys": []map[string]string{{"type": "qcode", "data": name}}, "hold-time": keyPause.Milliseconds() / 2}
		if err := m.monitor.execute("send-key", keys); err != nil {
			return fmt.Errorf("press key %q: %w", name, err)
		}
		select {
		case <-time.After(keyPause):
		case <-ctx.Done():
			return fmt.Errorf("press key %q: %w", name, ctx.Err())
		}
	}
	return nil
}

// Type presses the keys of a text of digits, lower-case letters and * # space
// newline (= ret); "#" and "*" are typed with shift as on a US keyboard.
func (m *Machine) Type(ctx context.Context, text string) error {
	for _, r := range text {
		if err := m.typeRune(ctx, r); err != nil {
			return fmt.Errorf("type %q: %w", text, err)
		}
	}
	return nil
}

func (m *Machine) typeRune(ctx context.Context, r rune) error {
	switch {
	case r >= '0' && r <= '9', r >= 'a' && r <= 'z':
		return m.Key(ctx, string(r))
	case r == ' ':
		return m.Key(ctx, "spc")
	case r == '\n':
		return m.Key(ctx, "ret")
	case r == '*':
		return m.Key(ctx, "kp_multiply")
	case r == '#':
		return m.chord("shift", "3")
	}
	return fmt.Errorf("no key for %q", r)
}

func (m *Machine) chord(names ...string) error {
	keys := make([]map[string]string, len(names))
	for i, name := range names {
		keys[i] = map[string]string{"type": "qcode", "data": name}
	}
	if err := m.monitor.execute("send-key", map[string]any{"keys": keys}); err != nil {
		return fmt.Errorf("press %s: %w", strings.Join(names, "+"), err)
	}
	return nil
}

// Hook lifts (true) or replaces (false) the handset.
func (m *Machine) Hook(off bool) error {
	if err := m.gpio.setHook(off); err != nil {
		return fmt.Errorf("move the hook switch: %w", err)
	}
	return nil
}

// Lamp reports whether the lamp is lit, and every change since power-on.
func (m *Machine) Lamp() (lit bool, history []LampEvent) {
	m.gpio.mu.Lock()
	defer m.gpio.mu.Unlock()
	return m.gpio.lit, slices.Clone(m.gpio.history)
}

// ExpectLamp waits until the lamp is lit or dark.
func (m *Machine) ExpectLamp(ctx context.Context, lit bool) error {
	for {
		m.gpio.mu.Lock()
		now, changed := m.gpio.lit, m.gpio.changed
		m.gpio.mu.Unlock()
		if now == lit {
			return nil
		}
		select {
		case <-changed:
		case <-m.done:
			return fmt.Errorf("expect lamp %v: %w", lit, ErrExited)
		case <-ctx.Done():
			return fmt.Errorf("expect lamp %v: %w", lit, ctx.Err())
		}
	}
}

// Screenshot writes what the screen shows to a PNG file.
func (m *Machine) Screenshot(path string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("screenshot: %w", err)
	}
	if err := m.monitor.execute("screendump", map[string]string{"filename": absolute, "format": "png"}); err != nil {
		return fmt.Errorf("screenshot: %w", err)
	}
	return nil
}

// FactoryLine returns the path of the factory serial line's far end: the
// pseudo-terminal to open, or Config.FactorySocket.
func (m *Machine) FactoryLine() (string, error) {
	if m.config.FactorySocket != "" {
		return m.config.FactorySocket, nil
	}
	var lines []struct{ Label, Filename string }
	if err := m.monitor.run("query-chardev", nil, &lines, -1); err != nil {
		return "", fmt.Errorf("find the factory line: %w", err)
	}
	for _, line := range lines {
		if path, ok := strings.CutPrefix(line.Filename, "pty:"); ok && line.Label == "factory" {
			return path, nil
		}
	}
	return "", errors.New("find the factory line: the board has none")
}

// Reset pulls the reset line: the board starts again with what it has on disk.
func (m *Machine) Reset() error { return m.monitor.execute("system_reset", nil) }

// PowerDown presses the power button; the guest decides what follows.
func (m *Machine) PowerDown() error { return m.monitor.execute("system_powerdown", nil) }

// Pause stops the board's clock and processor; Resume continues.
func (m *Machine) Pause() error { return m.monitor.execute("stop", nil) }

// Resume continues after Pause.
func (m *Machine) Resume() error { return m.monitor.execute("cont", nil) }

// Execute runs a QMP command that has no method here; result may be nil.
func (m *Machine) Execute(command string, arguments, result any) error {
	return m.monitor.run(command, arguments, result, -1)
}

// Events lists the QMP events so far ("RESET", "SHUTDOWN", "WATCHDOG", ...).
func (m *Machine) Events() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

// Kill pulls the power cable and returns when everything has ended. What the
// guest wrote is in the host's page cache and survives.
func (m *Machine) Kill() {
	_ = killGroup(m.emulator) // fails only if it is gone
	<-m.done
}

// Done is closed when the machine has ended and was cleaned up.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Wait returns when the machine has ended; the error is that of the emulator,
// or of ctx, which does not end the machine.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.done:
		if m.err != nil {
			return fmt.Errorf("machine %q: %w%s", m.config.Name, m.err, m.complaints())
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for machine %q: %w", m.config.Name, ctx.Err())
	}
}
