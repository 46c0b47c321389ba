package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// Role says what a device is to the phone, and so which backend it is given.
type Role string

// The roles that a board specification may use.
const (
	RoleTPM      Role = "tpm"
	RoleNetwork  Role = "network"
	RoleDisk     Role = "disk"
	RoleKeyboard Role = "keyboard"
	RoleScreen   Role = "screen"
	RoleSound    Role = "sound"
	RoleFactory  Role = "factory"
	RoleWatchdog Role = "watchdog"
	RoleRandom   Role = "random"
)

func (r Role) valid() bool {
	return slices.Contains([]Role{RoleTPM, RoleNetwork, RoleDisk, RoleKeyboard, RoleScreen,
		RoleSound, RoleFactory, RoleWatchdog, RoleRandom}, r)
}

// Spec describes a board to QEMU. It is data, read by LoadSpec.
type Spec struct {
	Board           string   `toml:"board"`
	Emulator        string   `toml:"emulator"`
	Machine         string   `toml:"machine"`
	CPU             string   `toml:"cpu"`
	Cores           int      `toml:"cores"`             // 1..8
	MemoryMiB       int      `toml:"memory_mib"`        // 32..4096
	DeviceTree      string   `toml:"device_tree"`       // file name of the finished tree
	DeviceTreeNodes string   `toml:"device_tree_nodes"` // source of the nodes added to QEMU's tree
	Firmware        Firmware `toml:"firmware"`
	GPIO            GPIO     `toml:"gpio"`
	Sound           Sound    `toml:"sound"`
	Devices         []Device `toml:"device"`
}

// Firmware names the UEFI flash images of the board.
type Firmware struct {
	Code string `toml:"code"` // read-only
	Vars string `toml:"vars"` // template in setup mode; every phone has its own copy
}

// GPIO says on which lines the hook switch and the lamp are.
type GPIO struct {
	Controller string `toml:"controller"` // QOM type of the controller
	Hook       int    `toml:"hook"`       // input, 1 = off hook
	Lamp       int    `toml:"lamp"`       // output, 1 = lit
}

// Sound fixes the rates at which QEMU exchanges samples with its audio peer.
type Sound struct {
	MicrophoneHz int `toml:"microphone_hz"`
	SpeakerHz    int `toml:"speaker_hz"`
	TimerMicros  int `toml:"timer_us"`
}

// Device is one emulated device.
type Device struct {
	Role    Role   `toml:"role"`
	Model   string `toml:"model"`
	Slot    string `toml:"slot"`    // PCI address; empty for devices that are not on PCI
	Options string `toml:"options"` // further properties, comma separated
}

// LoadSpec reads and checks a board specification. Unknown keys are refused.
func LoadSpec(path string) (Spec, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Spec{}, fmt.Errorf("read board specification: %w", err)
	}
	var s Spec
	decoder := toml.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return Spec{}, fmt.Errorf("decode board specification %s: %w", path, err)
	}
	if err := s.validate(); err != nil {
		return Spec{}, fmt.Errorf("board specification %s: %w", path, err)
	}
	return s, nil
}

func (s Spec) validate() error {
	for name, value := range map[string]string{"board": s.Board, "emulator": s.Emulator,
		"machine": s.Machine, "cpu": s.CPU, "gpio.controller": s.GPIO.Controller} {
		if value == "" {
			return fmt.Errorf("%s is missing", name)
		}
	}
	switch {
	case s.Cores < 1 || s.Cores > 8:
		return fmt.Errorf("cores = %d, want 1 to 8", s.Cores)
	case s.MemoryMiB < 32 || s.MemoryMiB > 4096:
		return fmt.Errorf("memory_mib = %d, want 32 to 4096", s.MemoryMiB)
	case s.Sound.MicrophoneHz < 8000 || s.Sound.SpeakerHz < 8000 || s.Sound.TimerMicros < 100:
		return errors.New("sound rates or timer are missing or too small")
	}
	return s.validateDevices()
}

func (s Spec) validateDevices() error {
	roles, slots := map[Role]bool{}, map[string]bool{}
	for i, d := range s.Devices {
		switch {
		case !d.Role.valid():
			return fmt.Errorf("device %d: unknown role %q", i, d.Role)
		case d.Model == "":
			return fmt.Errorf("device %d: model is missing", i)
		case roles[d.Role]:
			return fmt.Errorf("device %d: second device of role %q", i, d.Role)
		case d.Slot != "" && slots[d.Slot]:
			return fmt.Errorf("device %d: slot %s is taken", i, d.Slot)
		case d.Slot == "" && d.Role != RoleTPM:
			return fmt.Errorf("device %d: no fixed slot", i)
		}
		roles[d.Role], slots[d.Slot] = true, true
	}
	return nil
}
