package slottest

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"ringfence/hal/slot"
)

// ErrBrick reports a machine on which nothing boots.
var ErrBrick = errors.New("brick: the firmware finds nothing that boots")

// Start does what UEFI firmware does at power-on (UEFI 2.10, 3.1.1): it takes
// BootNext away and tries it, then BootOrder. signed decides, by the digest of
// the whole file, what Secure Boot lets run. The image that started is returned.
func (m *Machine) Start(signed func(digest [32]byte) bool) (slot.ID, [32]byte, error) {
	m.current = 0
	var order []byte
	if next, ok := m.vars["BootNext"]; ok {
		m.put(entry{kind: kindVariable, name: "BootNext"})
		order = append(order, next...)
	}
	order = append(order, m.vars["BootOrder"]...)
	for ; len(order) >= 2; order = order[2:] {
		for _, id := range []slot.ID{slot.A, slot.B} {
			if binary.LittleEndian.Uint16(order) != id.Entry() {
				continue
			}
			image, err := m.ReadSlot(id)
			if err != nil || len(image) == 0 {
				continue // the firmware goes to the next entry
			}
			if digest := sha256.Sum256(image); signed(digest) {
				m.current = id
				return id, digest, nil
			}
		}
	}
	return 0, [32]byte{}, ErrBrick
}

// ReadSlot reads a slot's file cluster by cluster through the allocation
// table, as firmware does. It shares no code with package slot.
func (m *Machine) ReadSlot(id slot.ID) ([]byte, error) {
	d := m.Disk()
	boot := make([]byte, sector)
	if _, err := d.ReadAt(boot, 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	fat := int64(le.Uint16(boot[14:])) * sector
	data := fat + int64(boot[16])*int64(le.Uint32(boot[36:]))*sector
	chain := func(cluster uint32, limit int) ([]byte, error) {
		var out []byte
		for cluster >= 2 && cluster < 0x0ffffff8 && len(out) < limit {
			c := make([]byte, sector+4)
			if _, err := d.ReadAt(c[:sector], data+int64(cluster-2)*sector); err != nil {
				return nil, err
			}
			out = append(out, c[:sector]...)
			if _, err := d.ReadAt(c[sector:], fat+4*int64(cluster)); err != nil {
				return nil, err
			}
			cluster = le.Uint32(c[sector:]) & 0x0fffffff
		}
		return out, nil
	}
	cluster, size := le.Uint32(boot[44:]), 1<<16
	for _, name := range []string{"EFI        ", "PHONE      ", map[slot.ID]string{slot.A: "A       EFI", slot.B: "B       EFI"}[id]} {
		directory, err := chain(cluster, size)
		if err != nil {
			return nil, err
		}
		cluster = 0
		for ; len(directory) >= 32 && directory[0] != 0; directory = directory[32:] {
			if string(directory[:11]) == name {
				cluster = uint32(le.Uint16(directory[20:]))<<16 | uint32(le.Uint16(directory[26:]))
				size = int(le.Uint32(directory[28:]))
				break
			}
		}
		if cluster == 0 {
			return nil, fmt.Errorf("no file %q", name)
		}
		if directory[11]&0x10 != 0 {
			size = 1 << 16 // directories state no size
		}
	}
	if size == 0 {
		return nil, nil
	}
	content, err := chain(cluster, size)
	if err != nil || len(content) < size {
		return nil, errors.Join(fmt.Errorf("file of %d bytes has clusters for %d", size, len(content)), err)
	}
	return content[:size], nil
}
