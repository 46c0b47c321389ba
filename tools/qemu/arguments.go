package qemu

import (
	"fmt"
	"strconv"
	"strings"
)

// descriptors are the numbers that the emulator inherits its connections
// under; 0 means that there is none.
type descriptors struct {
	console, qmp, qtest, tpm, network int
}

// quote doubles commas, which separate options in QEMU's arguments.
func quote(value string) string { return strings.ReplaceAll(value, ",", ",,") }

func (c Config) arguments(fd descriptors) []string {
	s := c.Spec
	args := []string{
		"-name", "ringfence-" + quote(c.Name), "-nodefaults", "-no-user-config",
		"-machine", s.Machine, "-accel", "tcg,thread=multi", "-cpu", s.CPU,
		"-smp", strconv.Itoa(s.Cores), "-m", strconv.Itoa(s.MemoryMiB),
		// Stopped until the audio peer listens: a guest that opens its codec
		// earlier would find no microphone.
		"-S",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", fd.console), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fd.qmp), "-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=qtest,fd=%d", fd.qtest), "-qtest", "chardev:qtest", "-qtest-log", "/dev/null",
		"-audiodev", fmt.Sprintf("dbus,id=audio,in.frequency=%d,in.channels=2,out.frequency=%d,out.channels=2,timer-period=%d",
			s.Sound.MicrophoneHz, s.Sound.SpeakerHz, s.Sound.TimerMicros),
		"-display", "dbus,p2p=on,audiodev=audio",
	}
	args = append(args, c.bootArguments()...)
	for _, d := range s.Devices {
		args = append(args, c.deviceArguments(d, fd)...)
	}
	if c.ExitOnReset {
		args = append(args, "-no-reboot")
	}
	return append(args, c.Extra...)
}

func (c Config) bootArguments() []string {
	var args []string
	if c.DTB != "" {
		args = append(args, "-dtb", c.DTB)
	}
	if c.Kernel != "" {
		args = append(args, "-kernel", c.Kernel, "-append", c.Append)
		if c.Initrd != "" {
			args = append(args, "-initrd", c.Initrd)
		}
		return args
	}
	return append(args,
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+quote(c.code()),
		"-drive", "if=pflash,format=raw,unit=1,file="+quote(c.Vars))
}

// deviceArguments returns nothing for a device whose backend was not
// configured; the fixed slots keep every other device where it was.
func (c Config) deviceArguments(d Device, fd descriptors) []string {
	var backend []string
	var property string
	switch d.Role {
	case RoleTPM:
		if c.TPMDir == "" {
			return nil
		}
		backend = []string{"-chardev", fmt.Sprintf("socket,id=tpm,fd=%d", fd.tpm), "-tpmdev", "emulator,id=tpm0,chardev=tpm"}
		property = "tpmdev=tpm0"
	case RoleNetwork:
		if c.Network == nil {
			return nil
		}
		backend = []string{"-netdev", fmt.Sprintf("stream,id=net0,server=off,addr.type=fd,addr.str=%d", fd.network)}
		property = "netdev=net0,mac=" + c.MAC
	case RoleDisk:
		if c.Disk == "" {
			return nil
		}
		backend = []string{"-drive", "if=none,id=disk0,format=raw,file=" + quote(c.Disk)}
		property = "drive=disk0"
	case RoleSound:
		property = "audiodev=audio"
	case RoleFactory:
		backend = []string{"-chardev", "pty,id=factory"}
		if c.FactorySocket != "" {
			backend[1] = "socket,id=factory,server=on,wait=off,path=" + quote(c.FactorySocket)
		}
		property = "chardev=factory"
	}
	return append(backend, "-device", joinOptions(d.Model, property, slotOption(d.Slot), d.Options))
}

func slotOption(slot string) string {
	if slot == "" {
		return ""
	}
	return "addr=" + slot
}

func joinOptions(parts ...string) string {
	kept := parts[:0:0]
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ",")
}
