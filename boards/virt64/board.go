// Package virt64 is the wiring of QEMU's arm64 "virt" machine as a desk phone:
// an ES1370 as codec, virtio keyboard and screen, a PL061 with hook switch and
// lamp, a TPM, a PCI serial line and an i6300esb watchdog. QEMU's arguments
// are data beside it (qemu.toml), not code.
package virt64

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"ringfence/boards"
	"ringfence/hal"
	"ringfence/hal/leds"
	"ringfence/hal/rfkill"
	"ringfence/hal/tpm"
	"ringfence/hal/uart"
	"ringfence/hal/watchdog"
)

// watchdogSeconds is longer than the slowest boot step under emulation.
const watchdogSeconds = 30

// Board returns the wiring.
func Board() boards.Board {
	return boards.Board{
		Name:       "virt64",
		Compatible: "linux,dummy-virt",
		Interface:  "eth0",

		OpenTPM:         openTPM,
		OpenCapture:     func() (*os.File, error) { return device("/dev/snd/pcmC0D0c", os.O_RDWR) },
		OpenPlayback:    func() (*os.File, error) { return device("/dev/snd/pcmC0D0p", os.O_RDWR) },
		OpenHook:        func() (*os.File, error) { return input("phone-keys") },
		OpenKeys:        func() (*os.File, error) { return input("QEMU Virtio Keyboard") },
		OpenScreen:      func() (*os.File, error) { return device("/dev/fb0", os.O_RDWR) },
		OpenMicLamp:     func() (hal.Lamp, error) { return leds.Open("/sys/class/leds/mic:red") },
		OpenWatchdog:    func() (hal.Watchdog, error) { return watchdog.Open("/dev/watchdog", watchdogSeconds) },
		OpenRadioBlock:  func() (boards.RadioBlock, error) { return rfkill.Open("/dev/rfkill") },
		OpenFactoryLine: func() (io.ReadWriteCloser, error) { return uart.Open("/dev/ttyS0", uart.Baud) },
	}
}

func openTPM() (hal.PCRs, error) {
	d, err := tpm.Open(tpm.Path)
	if errors.Is(err, tpm.ErrAbsent) {
		return nil, errors.Join(err, hal.ErrAbsent)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

func device(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, hal.ErrAbsent)
	}
	return f, err
}

// input opens the evdev device with the given name: numbers depend on the
// order in which drivers start.
func input(name string) (*os.File, error) {
	paths, err := filepath.Glob("/sys/class/input/event*/device/name")
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil || strings.TrimSpace(string(raw)) != name {
			continue
		}
		event := filepath.Base(filepath.Dir(filepath.Dir(p)))
		return device("/dev/input/"+event, os.O_RDWR)
	}
	return nil, fmt.Errorf("input device %q: %w", name, hal.ErrAbsent)
}
