// Package image builds what a phone boots and what the factory writes on it:
// the kernel, the initramfs, the unified kernel image (UKI), the UEFI variable
// store, the disk, the board's device tree, and the reference values that a
// phone booting the image must show. Everything but signatures is a pure
// function of its inputs, bit for bit.
//
// It does not boot boards (that is tools/qemu) and it does not publish
// releases.
//
// Specifications: Linux initramfs buffer format (newc cpio), PE/COFF and
// Authenticode, UEFI 2.9 sections 3.1 (load options), 8.2 (variables), 10.3
// (device paths) and 32.4 (signature lists), TCG PC Client Platform Firmware
// Profile 1.05 sections 3.3.4 and 10.4, SPDX 2.3.
package image
