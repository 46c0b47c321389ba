package slot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// sector is the unit that a medium writes whole or not at all.
const sector = 512

// chunk is how much is read or written at once.
const chunk = 64 << 10

// file is one slot's place on the volume.
type file struct {
	entry    int64 // byte offset of its directory entry
	start    int64 // byte offset of its first cluster
	capacity int64 // bytes
	size     int64 // as in the directory entry
}

type volume struct {
	disk  Disk
	trial int64 // byte offset of the mark
	files map[ID]*file
}

// geometry is what the boot sector says (FAT specification, section "Boot
// Sector and BPB Structure").
type geometry struct {
	fat, data int64 // byte offsets
	cluster   int64 // bytes
	root      uint32
	clusters  uint32
}

func openVolume(disk Disk) (*volume, error) {
	g, err := readGeometry(disk)
	if err != nil {
		return nil, err
	}
	directory := g.root
	for _, name := range []string{"EFI        ", "PHONE      "} {
		e, err := g.find(disk, directory, name)
		if err != nil {
			return nil, err
		}
		directory = e.cluster
	}
	v := &volume{disk: disk, trial: g.offset(markCluster), files: map[ID]*file{}}
	for _, id := range []ID{A, B} {
		if v.files[id], err = g.slot(disk, directory, id); err != nil {
			return nil, fmt.Errorf("slot %s: %w", id, err)
		}
	}
	a, b := v.files[A], v.files[B]
	if a.entry/sector == b.entry/sector || a.start < b.start+b.capacity && b.start < a.start+a.capacity {
		return nil, fmt.Errorf("%w: the slots share sectors", ErrLayout)
	}
	return v, nil
}

func readGeometry(disk Disk) (g geometry, err error) {
	raw := make([]byte, sector)
	if _, err := disk.ReadAt(raw, 0); err != nil {
		return g, fmt.Errorf("read boot sector: %w", err)
	}
	le := binary.LittleEndian
	perCluster, reserved, fats := int64(raw[13]), int64(le.Uint16(raw[14:])), int64(raw[16])
	total, fatSize := int64(le.Uint32(raw[32:])), int64(le.Uint32(raw[36:]))
	if le.Uint16(raw[510:]) != 0xaa55 || le.Uint16(raw[11:]) != sector || string(raw[82:90]) != "FAT32   " ||
		perCluster == 0 || reserved == 0 || fats == 0 || fatSize == 0 {
		return g, fmt.Errorf("%w: not FAT32 with sectors of 512 bytes", ErrLayout)
	}
	first := reserved + fats*fatSize
	g = geometry{fat: reserved * sector, data: first * sector, cluster: perCluster * sector, root: le.Uint32(raw[44:])}
	count := (total - first) / perCluster
	if count < 1 || (count+2)*4 > fatSize*sector {
		return g, fmt.Errorf("%w: boot sector contradicts itself", ErrLayout)
	}
	g.clusters = uint32(count)
	return g, nil
}

func (g *geometry) offset(cluster uint32) int64 { return g.data + int64(cluster-2)*g.cluster }

func (g *geometry) valid(cluster uint32) bool { return cluster >= 2 && cluster-2 < g.clusters }

// lastCluster and above end a chain.
const lastCluster = 0x0ffffff8

// next reads the table's entry of cluster.
func (g *geometry) next(disk Disk, cluster uint32) (uint32, error) {
	if !g.valid(cluster) {
		return 0, fmt.Errorf("%w: cluster %d does not exist", ErrLayout, cluster)
	}
	var raw [4]byte
	if _, err := disk.ReadAt(raw[:], g.fat+4*int64(cluster)); err != nil {
		return 0, fmt.Errorf("read allocation table: %w", err)
	}
	return binary.LittleEndian.Uint32(raw[:]) & 0x0fffffff, nil
}

type dirEntry struct {
	offset  int64
	cluster uint32
	size    uint32
}

// maxDirectory bounds the directories that are looked through, in clusters.
const maxDirectory = 64

// find looks for an 8.3 name (11 characters) in a directory.
func (g *geometry) find(disk Disk, directory uint32, name string) (dirEntry, error) {
	for range maxDirectory {
		if !g.valid(directory) {
			break
		}
		raw := make([]byte, g.cluster)
		at := g.offset(directory)
		if _, err := disk.ReadAt(raw, at); err != nil {
			return dirEntry{}, fmt.Errorf("read directory: %w", err)
		}
		for i := 0; i < len(raw); i += 32 {
			e := raw[i : i+32]
			if e[0] == 0 {
				return dirEntry{}, fmt.Errorf("%w: %q is missing", ErrLayout, name)
			}
			if string(e[:11]) == name && e[11]&0x08 == 0 {
				le := binary.LittleEndian
				return dirEntry{at + int64(i), uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:])), le.Uint32(e[28:])}, nil
			}
		}
		var err error
		if directory, err = g.next(disk, directory); err != nil {
			return dirEntry{}, err
		}
	}
	return dirEntry{}, fmt.Errorf("%w: %q is missing", ErrLayout, name)
}

// slot follows a slot file's chain, which must be one run of clusters.
func (g *geometry) slot(disk Disk, directory uint32, id ID) (*file, error) {
	e, err := g.find(disk, directory, shortName(id))
	if err != nil {
		return nil, err
	}
	run, cluster := int64(0), e.cluster
	table := make([]byte, chunk)
	for base := int64(-1); ; run++ {
		if !g.valid(cluster) {
			return nil, fmt.Errorf("%w: cluster %d does not exist", ErrLayout, cluster)
		}
		if at := 4 * int64(cluster); base < 0 || at >= base+chunk {
			base = at
			n, err := disk.ReadAt(table, g.fat+base)
			if err != nil && !(errors.Is(err, io.EOF) && n >= 4) {
				return nil, fmt.Errorf("read allocation table: %w", err)
			}
		}
		next := binary.LittleEndian.Uint32(table[4*int64(cluster)-base:]) & 0x0fffffff
		if next >= lastCluster {
			break
		}
		if next != cluster+1 {
			return nil, fmt.Errorf("%w: its clusters are not one run", ErrLayout)
		}
		cluster = next
	}
	f := &file{entry: e.offset, start: g.offset(e.cluster), capacity: (run + 1) * g.cluster, size: int64(e.size)}
	if f.size > f.capacity {
		return nil, fmt.Errorf("%w: %d bytes in clusters for %d", ErrLayout, f.size, f.capacity)
	}
	return f, nil
}

func (v *volume) digest(id ID) (sum [32]byte, size int64, err error) {
	f := v.files[id]
	if f.size == 0 {
		return sum, 0, fmt.Errorf("slot %s: %w", id, fs.ErrNotExist)
	}
	sum, err = v.sum(f, f.size)
	return sum, f.size, err
}

func (v *volume) sum(f *file, size int64) (sum [32]byte, err error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, io.NewSectionReader(v.disk, f.start, size), make([]byte, chunk)); err != nil {
		return sum, fmt.Errorf("read image: %w", err)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// write is the one path on which a slot changes; package doc has the order.
func (v *volume) write(id ID, r io.Reader, size int64, digest [32]byte) error {
	f := v.files[id]
	if size <= 0 || size > f.capacity {
		return fmt.Errorf("image of %d bytes, a slot holds 1 to %d", size, f.capacity)
	}
	if err := v.setSize(f, 0); err != nil {
		return err
	}
	if err := v.fill(f, r, size); err != nil {
		return err
	}
	if err := v.disk.Sync(); err != nil {
		return fmt.Errorf("sync image: %w", err)
	}
	sum, err := v.sum(f, size)
	if err != nil {
		return err
	}
	if sum != digest {
		return fmt.Errorf("%w: wrote %x, want %x", ErrDigest, sum, digest)
	}
	return v.setSize(f, size)
}

// fill writes size bytes of r, padded to whole sectors.
func (v *volume) fill(f *file, r io.Reader, size int64) error {
	buf := make([]byte, chunk)
	for at := int64(0); at < size; at += chunk {
		n := min(chunk, size-at)
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return fmt.Errorf("image ends at %d of %d bytes: %w", at, size, err)
		}
		padded := (n + sector - 1) / sector * sector
		clear(buf[n:padded])
		if _, err := v.disk.WriteAt(buf[:padded], f.start+at); err != nil {
			return fmt.Errorf("write image: %w", err)
		}
	}
	return nil
}

// setSize rewrites the directory sector of a slot, which holds no other
// slot's entry, and reads it back from the medium.
func (v *volume) setSize(f *file, size int64) error {
	if f.size == size {
		return nil
	}
	at := f.entry / sector * sector
	raw, back := make([]byte, sector), make([]byte, sector)
	if _, err := v.disk.ReadAt(raw, at); err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	binary.LittleEndian.PutUint32(raw[f.entry-at+28:], uint32(size))
	if _, err := v.disk.WriteAt(raw, at); err != nil {
		return fmt.Errorf("write directory: %w", err)
	}
	if err := v.disk.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if _, err := v.disk.ReadAt(back, at); err != nil {
		return fmt.Errorf("read directory back: %w", err)
	}
	if !bytes.Equal(raw, back) {
		return errors.New("directory reads back differently")
	}
	f.size = size
	return nil
}
