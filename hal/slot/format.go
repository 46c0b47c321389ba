package slot

import (
	"encoding/binary"
	"fmt"
)

// Layout that Format makes: sectors of 512 bytes, one per cluster.
const (
	reserved     = 32
	rootCluster  = 2
	efiCluster   = 3
	phoneCluster = 4 // and the next: one sector for each slot's entry
	markCluster  = 6 // in no file, and marked as bad so that no file gets it
	firstSlot    = 8
	volumeID     = 0x52494e47
	fatDate      = 44<<9 | 1<<5 | 1 // 2024-01-01

	// minClusters is what makes a FAT volume FAT32 (FAT specification,
	// "FAT Type Determination").
	minClusters = 65525
)

// Format makes an empty FAT32 volume of size bytes whose two slots, \EFI\phone\a.efi
// and b.efi, hold capacity bytes each. All of the disk up to the slots is
// written. The unused end of a slot's clusters belongs to its file although its
// size does not count them: a file system check would call that an error and
// must not repair it.
func Format(disk Disk, size, capacity int64) error {
	total := size / sector
	fat := (total - reserved + 2 + 129) / 130 // 128 entries per table sector, two tables
	clusters := total - reserved - 2*fat
	run := (capacity + sector - 1) / sector
	if clusters < minClusters || run < 1 || firstSlot-2+2*run > clusters {
		return fmt.Errorf("format: two slots of %d bytes do not fit a FAT32 volume of %d", capacity, size)
	}
	boot := bootSector(total, fat)
	info := infoSector()
	table := allocation(fat, run)
	data := reserved + 2*fat
	for _, part := range []struct {
		at   int64
		data []byte
	}{
		{0, make([]byte, (data+firstSlot-2)*sector)},
		{0, boot}, {1, info}, {6, boot}, {7, info}, {reserved, table}, {reserved + fat, table},
		{data, append(dirRecord("PHONE      ", 0x08, 0, 0), dirRecord("EFI        ", 0x10, efiCluster, 0)...)},
		{data + efiCluster - 2, directory(efiCluster, 0, dirRecord("PHONE      ", 0x10, phoneCluster, lowerBase))},
		{data + phoneCluster - 2, phoneDirectory(run)},
	} {
		whole := append(part.data, make([]byte, -len(part.data)&(sector-1))...)
		if _, err := disk.WriteAt(whole, part.at*sector); err != nil {
			return fmt.Errorf("format: %w", err)
		}
	}
	return disk.Sync()
}

// bootSector is the BIOS parameter block of FAT32.
func bootSector(total, fat int64) []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	copy(b, "\xeb\x58\x90RINGFNCE")
	le.PutUint16(b[11:], sector)
	b[13] = 1 // sectors per cluster
	le.PutUint16(b[14:], reserved)
	b[16] = 2 // tables
	b[21] = 0xf8
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[32:], uint32(total))
	le.PutUint32(b[36:], uint32(fat))
	le.PutUint32(b[44:], rootCluster)
	le.PutUint16(b[48:], 1) // FSInfo
	le.PutUint16(b[50:], 6) // copy of the boot sector
	b[64], b[66] = 0x80, 0x29
	le.PutUint32(b[67:], volumeID)
	copy(b[71:], "PHONE      FAT32   ")
	le.PutUint16(b[510:], 0xaa55)
	return b
}

// infoSector is FSInfo with both hints unknown.
func infoSector() []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	le.PutUint32(b, 0x41615252)
	le.PutUint32(b[484:], 0x61417272)
	le.PutUint32(b[488:], 0xffffffff)
	le.PutUint32(b[492:], 0xffffffff)
	le.PutUint16(b[510:], 0xaa55)
	return b
}

func allocation(fat, run int64) []byte {
	le := binary.LittleEndian
	t := make([]byte, fat*sector)
	put := func(cluster int64, value uint32) { le.PutUint32(t[4*cluster:], value) }
	const end = 0x0fffffff
	put(0, 0x0ffffff8)
	put(1, end)
	put(rootCluster, end)
	put(efiCluster, end)
	put(phoneCluster, phoneCluster+1)
	put(phoneCluster+1, end)
	put(markCluster, 0x0ffffff7)
	for slot := range int64(2) {
		first := firstSlot + slot*run
		for c := first; c < first+run-1; c++ {
			put(c, uint32(c+1))
		}
		put(first+run-1, end)
	}
	return t
}

// Case flags of a directory entry: the name is shown in lower case.
const (
	lowerBase = 0x08
	lowerBoth = 0x18
)

func dirRecord(name string, attributes byte, cluster int64, lower byte) []byte {
	le := binary.LittleEndian
	e := make([]byte, 32)
	copy(e, name)
	e[11], e[12] = attributes, lower
	le.PutUint16(e[16:], fatDate)
	le.PutUint16(e[18:], fatDate)
	le.PutUint16(e[20:], uint16(cluster>>16))
	le.PutUint16(e[24:], fatDate)
	le.PutUint16(e[26:], uint16(cluster))
	return e
}

func directory(self, parent int64, entries ...[]byte) []byte {
	d := append(dirRecord(".          ", 0x10, self, 0), dirRecord("..         ", 0x10, parent, 0)...)
	for _, e := range entries {
		d = append(d, e...)
	}
	return d
}

// phoneDirectory puts slot A's entry into its first sector and slot B's into
// its second; deleted entries (first byte 0xE5) lie between.
func phoneDirectory(run int64) []byte {
	d := directory(phoneCluster, efiCluster, dirRecord(shortName(A), 0x20, firstSlot, lowerBoth))
	for len(d) < sector {
		d = append(d, 0xe5)
		d = append(d, make([]byte, 31)...)
	}
	return append(d, dirRecord(shortName(B), 0x20, firstSlot+run, lowerBoth)...)
}

// shortName is the slot's 8.3 name as a directory holds it.
func shortName(id ID) string {
	if id == B {
		return "B       EFI"
	}
	return "A       EFI"
}
