// Package qemu boots a board from Go: it starts QEMU with the board's devices
// (read as data from boards/NAME/qemu.toml), a software TPM, a port of a
// tools/segment network, and gives the caller a person's hands, ears and eyes:
// keys, hook switch, lamp, screen, microphone, speaker and the power cable.
//
// It does not build images, choose kernels or judge what a phone did.
//
// Specifications: QEMU 7.2 QMP, qtest and org.qemu.Display1.Audio; D-Bus 1.0
// wire format (dbus.freedesktop.org/doc/dbus-specification.html); swtpm 0.7.
package qemu
