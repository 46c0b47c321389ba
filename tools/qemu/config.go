package qemu

import (
	"errors"
	"os"
)

// Network is a segment to which the phone is plugged in.
type Network interface {
	// Attach adds a port and returns the far end of its connection, on which
	// frames are preceded by their length (32 bits, big endian). The caller
	// closes it after handing it to the emulator.
	Attach(name string) (*os.File, error)
}

// Config says how to start one board.
type Config struct {
	Spec Spec
	// Name appears in errors, in the process list and as the network port's name.
	Name string
	// Dir receives console.log and qemu.log. It must exist.
	Dir string

	// Disk is a raw disk image, opened for writing; empty means no disk.
	Disk string
	// Vars is this phone's UEFI variable flash; needed unless Kernel is given.
	Vars string
	// Code overrides Spec.Firmware.Code when not empty.
	Code string
	// DTB is the board's device tree; empty leaves QEMU's own. It must have a
	// TPM node exactly when TPMDir is given.
	DTB string
	// TPMDir is the state made by ManufactureTPM; empty means a board without TPM.
	TPMDir string

	// MAC of the network card; needed with Network. A nil Network means no card.
	MAC     string
	Network Network

	// Kernel, Initrd and Append start Linux directly, without UEFI.
	Kernel, Initrd, Append string

	// FactorySocket makes the factory line a unix socket on which QEMU listens;
	// empty makes it a pseudo-terminal (Machine.FactoryLine).
	FactorySocket string
	// ExitOnReset ends the machine where it would reboot (QEMU -no-reboot).
	ExitOnReset bool
	// Hook is the initial state of the hook switch: true = off hook.
	Hook bool
	// Extra are further QEMU arguments, for tests of one property.
	Extra []string
}

func (c Config) validate() error {
	if err := c.Spec.validate(); err != nil {
		return err
	}
	switch {
	case c.Name == "":
		return errors.New("no name")
	case c.Dir == "":
		return errors.New("no directory for the logs")
	case c.Kernel == "" && c.Vars == "":
		return errors.New("neither a kernel nor a UEFI variable store")
	case c.Kernel == "" && c.code() == "":
		return errors.New("no UEFI firmware")
	case c.Kernel == "" && (c.Initrd != "" || c.Append != ""):
		return errors.New("initrd or command line without a kernel")
	case c.Network != nil && c.MAC == "":
		return errors.New("a network without a MAC address")
	}
	return nil
}

func (c Config) code() string {
	if c.Code != "" {
		return c.Code
	}
	return c.Spec.Firmware.Code
}
