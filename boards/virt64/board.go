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

	"golang.org/x/sys/unix"

	"ringfence/boards"
	"ringfence/hal"
	"ringfence/hal/audio"
	"ringfence/hal/audio/alsactl"
	"ringfence/hal/display"
	"ringfence/hal/input"
	"ringfence/hal/leds"
	"ringfence/hal/rfkill"
	"ringfence/hal/slot"
	"ringfence/hal/tpm"
	"ringfence/hal/uart"
	"ringfence/hal/watchdog"
)

const (
	keyboard = "QEMU Virtio Keyboard"
	screen   = "/dev/fb0"
	line     = "/dev/ttyS0"
	codec    = "/dev/snd/controlC0"
)

// watchdogSeconds is longer than the slowest boot step under emulation.
const watchdogSeconds = 30

// Board returns the wiring.
func Board() boards.Board {
	return boards.Board{
		Name:       "virt64",
		Compatible: "ringfence,virt64",
		Interface:  "eth0",
		UEFI:       true,

		OpenTPM:         openTPM,
		OpenCapture:     func() (*os.File, error) { return device("/dev/snd/pcmC0D0c", os.O_RDWR|unix.O_NONBLOCK) },
		OpenPlayback:    func() (*os.File, error) { return device("/dev/snd/pcmC0D0p", os.O_RDWR|unix.O_NONBLOCK) },
		OpenHook:        func() (input.Source, error) { return open("phone-keys") },
		OpenKeys:        func() (input.Source, error) { return open(keyboard) },
		OpenScreen:      openScreen,
		OpenMicLamp:     func() (hal.Lamp, error) { return leds.Open("/sys/class/leds/mic:red") },
		OpenMicSwitch:   openMicSwitch,
		OpenWatchdog:    func() (hal.Watchdog, error) { return watchdog.Open("/dev/watchdog", watchdogSeconds) },
		OpenSlots:       openSlots,
		Hardware:        "r1",
		OpenRadioBlock:  func() (boards.RadioBlock, error) { return rfkill.Open("/dev/rfkill") },
		OpenFactoryLine: func() (io.ReadWriteCloser, error) { return uart.Open(line, uart.Baud) },
		Nodes:           nodes,
	}
}

func openTPM() (*tpm.Device, error) {
	d, err := tpm.Open(tpm.Path)
	if errors.Is(err, tpm.ErrAbsent) {
		return nil, errors.Join(err, hal.ErrAbsent)
	}
	return d, err
}

// openSlots opens the ESP, which nobody mounts, and the UEFI variables.
func openSlots() (*slot.Slots, error) {
	path, err := slot.FindPartition("/sys/class/block", "/dev", "esp")
	if err != nil {
		return nil, err
	}
	disk, err := slot.OpenDevice(path)
	if err != nil {
		return nil, err
	}
	slots, err := slot.New(disk, slot.EFIVars{Dir: "/sys/firmware/efi/efivars"})
	if err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	return slots, nil
}

func device(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, hal.ErrAbsent)
	}
	return f, err
}

// open opens the evdev device with the given name: numbers depend on the
// order in which drivers start.
func open(name string) (input.Source, error) {
	path, err := input.Find(name)
	if err != nil {
		return nil, absent(err)
	}
	d, err := input.Open(path, false)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func absent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, hal.ErrAbsent)
	}
	return err
}

func openScreen() (display.Screen, error) {
	d, err := display.Open(screen)
	if err != nil {
		return nil, absent(err)
	}
	return d, nil
}

// openMicSwitch opens the AK4531's switch. The driver sets its register; QEMU's
// ES1370 takes the write and does nothing with it.
func openMicSwitch() (audio.Switch, error) {
	s, err := alsactl.Open(codec, "Mic Capture Switch")
	if err != nil {
		return nil, absent(err)
	}
	return s, nil
}

func nodes() (map[string][]string, error) {
	keys, err := input.Find(keyboard)
	if err != nil {
		return nil, absent(err)
	}
	return map[string][]string{"ui": {keys, screen}, "agent": {tpm.Path, line}}, nil
}
