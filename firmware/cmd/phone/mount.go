package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
	optional             bool // a kernel without it goes on
}

func mounts() []mount {
	const strict = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return []mount{
		{"proc", "/proc", "proc", strict, "", false},
		{"sysfs", "/sys", "sysfs", strict, "", false},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755", false},
		{"tmpfs", "/run", "tmpfs", strict, "mode=0755,size=8m", false},
		{"securityfs", "/sys/kernel/security", "securityfs", strict, "", false},
		{"efivarfs", "/sys/firmware/efi/efivars", "efivarfs", strict | unix.MS_RDONLY, "", true},
	}
}

// mountAll mounts the kernel's file systems and makes the phone's directories.
func mountAll() error {
	for _, m := range mounts() {
		if err := os.MkdirAll(m.target, 0o755); err != nil && !m.optional {
			return fmt.Errorf("make %s: %w", m.target, err)
		}
		err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data)
		if err != nil && !errors.Is(err, unix.EBUSY) && !m.optional { // EBUSY: the kernel did it
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := os.MkdirAll(netDir, 0o755); err != nil {
		return err
	}
	if err := os.Chown(netDir, uidNet, uidNet); err != nil {
		return err
	}
	// Resolvers read /etc/resolv.conf; only net writes what is behind it.
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	if err := os.Symlink(resolvConf, "/etc/resolv.conf"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// mountState mounts the state partition and gives the agent its directory.
func mountState() error {
	device, err := statePartition("/sys/class/block", "/dev")
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/state", 0o755); err != nil {
		return err
	}
	const strict = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	if err := unix.Mount(device, "/state", "ext4", strict, ""); err != nil {
		return fmt.Errorf("mount state from %s: %w", device, err)
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return err
	}
	return os.Chown(stateDir, uidAgent, uidAgent)
}

// stateLabel is the name of the state partition in the GPT or its file system.
const stateLabel = "state"

// statePartition finds the one block device with the label.
func statePartition(sys, dev string) (string, error) {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return "", fmt.Errorf("list block devices: %w", err)
	}
	var found []string
	for _, e := range entries {
		path := filepath.Join(dev, e.Name())
		raw, err := os.ReadFile(filepath.Join(sys, e.Name(), "uevent"))
		if err != nil {
			continue // it went away
		}
		named := strings.Contains("\n"+string(raw), "\nPARTNAME="+stateLabel+"\n")
		if named || volumeLabel(path) == stateLabel {
			found = append(found, path)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d partitions labelled %q, want 1", len(found), stateLabel)
	}
	return found[0], nil
}

// volumeLabel reads the label of an ext4 file system: the superblock is at
// 1024, its magic at +0x38, its volume name at +0x78 (Linux
// Documentation/filesystems/ext4/super.rst).
func volumeLabel(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	sb := make([]byte, 0x88)
	if _, err := io.ReadFull(io.NewSectionReader(f, 1024, int64(len(sb))), sb); err != nil || sb[0x38] != 0x53 || sb[0x39] != 0xef {
		return ""
	}
	return strings.TrimRight(string(sb[0x78:0x88]), "\x00")
}
