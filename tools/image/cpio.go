package image

import (
	"bytes"
	"fmt"
)

// File type bits of a cpio entry's mode (as in stat(2)).
const (
	cpioDirectory = 0o040000
	cpioRegular   = 0o100000
	cpioCharacter = 0o020000
)

// cpioEntry is one entry of an initramfs. Owner is root, time is 0.
type cpioEntry struct {
	name         string // relative, no leading slash
	mode         uint32
	major, minor uint32 // of a device node
	data         []byte
}

// TrustPath is where an image holds what its phone believes about releases
// (wire/release, Trust).
const TrustPath = "/release-trust.json"

// Initramfs returns the uncompressed initramfs (Linux
// Documentation/driver-api/early-userspace/buffer-format.rst, "newc") with
// init as its only program and, unless it is nil, the release trust. The two
// device nodes give PID 1 its first descriptors before it mounts devtmpfs.
func Initramfs(init, trust []byte) []byte {
	var out bytes.Buffer
	for i, e := range initramfsEntries(init, trust) {
		writeCPIO(&out, uint32(i+1), e)
	}
	writeCPIO(&out, 0, cpioEntry{name: "TRAILER!!!"})
	return out.Bytes()
}

func initramfsEntries(init, trust []byte) []cpioEntry {
	var list []cpioEntry
	for _, dir := range []string{"dev", "etc", "proc", "run", "state", "sys"} {
		list = append(list, cpioEntry{name: dir, mode: cpioDirectory | 0o755})
	}
	list = append(list,
		cpioEntry{name: "tmp", mode: cpioDirectory | 0o1777},
		cpioEntry{name: "dev/console", mode: cpioCharacter | 0o600, major: 5, minor: 1},
		cpioEntry{name: "dev/null", mode: cpioCharacter | 0o666, major: 1, minor: 3},
		cpioEntry{name: "init", mode: cpioRegular | 0o755, data: init})
	if trust != nil {
		list = append(list, cpioEntry{name: TrustPath[1:], mode: cpioRegular | 0o444, data: trust})
	}
	return list
}

// writeCPIO writes header, name and data, each padded to 4 bytes.
func writeCPIO(out *bytes.Buffer, inode uint32, e cpioEntry) {
	links := 1
	if e.mode&cpioDirectory != 0 && e.mode&cpioRegular != cpioRegular {
		links = 2
	}
	fmt.Fprintf(out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		inode, e.mode, 0, 0, links, 0, len(e.data), 0, 0, e.major, e.minor, len(e.name)+1, 0)
	out.WriteString(e.name)
	out.WriteByte(0)
	pad4(out)
	out.Write(e.data)
	pad4(out)
}

func pad4(out *bytes.Buffer) {
	for out.Len()%4 != 0 {
		out.WriteByte(0)
	}
}
