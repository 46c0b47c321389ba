// Package slot keeps the two places for a firmware image and decides which of
// them the UEFI firmware starts. It verifies no signature: that is Secure
// Boot's work at boot and firmware/update's before; it makes sure that a power
// cut at any moment leaves an image that boots.
//
// The ESP is a FAT32 volume that is never mounted. Both slot files are
// allocated once, each in one run of clusters and with its directory entry in
// a sector of its own ([Format]). An update writes the idle slot's clusters in
// place and changes one other sector: that directory entry's, whose size is
// the commit point. The running slot's clusters, its directory sector, the
// file allocation table and the boot sector are never written, so no reordering
// of writes by cache or medium can harm them.
//
// A third sector, the mark, names the slot that TryOnce asked for: it tells a
// trial from a boot in which the firmware fell back to the other slot since
// the preferred one would not start.
//
// The firmware is told by two variables, each replaced by one SetVariable call,
// which EDK II's fault-tolerant write makes atomic: BootNext (try once, UEFI
// 2.10 section 3.1.2: removed before the entry is started) and BootOrder.
//
// Specifications: Microsoft FAT32 File System Specification 1.03; UEFI 2.10
// sections 3.1, 3.3 and 13.3.
package slot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ID is a slot.
type ID byte

// The slots.
const (
	A ID = 'a'
	B ID = 'b'
)

// String is "a" or "b".
func (i ID) String() string { return string(i) }

// Other is the other slot.
func (i ID) Other() ID {
	if i == A {
		return B
	}
	return A
}

// Entry is the number of the slot's Boot#### variable.
func (i ID) Entry() uint16 {
	if i == B {
		return 0xb0
	}
	return 0xa0
}

func fromEntry(n uint16) (ID, bool) {
	for _, id := range [...]ID{A, B} {
		if n == id.Entry() {
			return id, true
		}
	}
	return 0, false
}

// Disk is the ESP's block device. WriteAt may be reordered by what is below
// it; Sync returns when everything written before is on the medium, and later
// reads come from there.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Variables are the UEFI variables of EFI_GLOBAL_VARIABLE that survive a
// reset. Get of one that is not there is fs.ErrNotExist. Set replaces a
// variable whole or not at all.
type Variables interface {
	Get(name string) ([]byte, error)
	Set(name string, value []byte) error
}

// Errors on which callers branch.
var (
	// ErrLayout reports an ESP that was not made by Format.
	ErrLayout = errors.New("the boot partition is not laid out as two fixed slots")
	// ErrTrial reports that the running image has not proved itself yet: the
	// other slot is the way back and must not be touched.
	ErrTrial = errors.New("the running image is on trial: the other slot is the way back")
	// ErrDigest reports an image that is not what was announced.
	ErrDigest = errors.New("image differs from its digest")
)

// Slots are a phone's two slots. Not safe for concurrent use.
type Slots struct {
	volume *volume
	vars   Variables
}

// New reads the layout of disk and refuses any other than Format's.
func New(disk Disk, vars Variables) (*Slots, error) {
	if disk == nil || vars == nil {
		return nil, errors.New("slots need a disk and UEFI variables")
	}
	v, err := openVolume(disk)
	if err != nil {
		return nil, err
	}
	return &Slots{v, vars}, nil
}

// Capacity is the largest image in bytes.
func (s *Slots) Capacity() int64 { return s.volume.files[A].capacity }

// Running is the slot that the firmware started.
func (s *Slots) Running() (ID, error) {
	raw, err := s.vars.Get("BootCurrent")
	if err != nil {
		return 0, fmt.Errorf("which slot runs: %w", err)
	}
	if len(raw) != 2 {
		return 0, fmt.Errorf("BootCurrent of %d bytes, want 2", len(raw))
	}
	n := binary.LittleEndian.Uint16(raw)
	id, ok := fromEntry(n)
	if !ok {
		return 0, fmt.Errorf("BootCurrent is %04X: no slot", n)
	}
	return id, nil
}

// Preferred is the slot that the firmware starts when BootNext is not set.
func (s *Slots) Preferred() (ID, error) {
	order, err := s.order()
	if err != nil {
		return 0, err
	}
	for _, n := range order {
		if id, ok := fromEntry(n); ok {
			return id, nil
		}
	}
	return 0, errors.New("BootOrder names no slot")
}

// Trial reports whether the running image was started once, by TryOnce.
func (s *Slots) Trial() (bool, error) {
	second, marked, err := s.second()
	return second && marked, err
}

// FellBack reports whether the firmware started this slot because the
// preferred one would not start. Commit makes the way straight again.
func (s *Slots) FellBack() (bool, error) {
	second, marked, err := s.second()
	return second && !marked, err
}

// second says whether the running slot is not the preferred one, and whether
// the mark names it.
func (s *Slots) second() (second, marked bool, err error) {
	running, err := s.Running()
	if err != nil {
		return false, false, err
	}
	preferred, err := s.Preferred()
	if err != nil {
		return false, false, err
	}
	mark, err := s.volume.marked()
	return running != preferred, mark == running, err
}

// Digest returns the SHA-256 and length of the image in a slot; a slot
// without an image is fs.ErrNotExist.
func (s *Slots) Digest(id ID) ([32]byte, int64, error) {
	return s.volume.digest(id)
}

// Write replaces the image of the idle slot by size bytes of r. The image
// counts only after it was read back from the medium with the right digest;
// otherwise the slot is left empty. During a trial it is ErrTrial.
func (s *Slots) Write(r io.Reader, size int64, digest [32]byte) error {
	idle, err := s.idle()
	if err != nil {
		return err
	}
	if err := s.volume.write(idle, r, size, digest); err != nil {
		return fmt.Errorf("write slot %s: %w", idle, err)
	}
	return nil
}

// TryOnce makes the firmware start the idle slot at the next boot only.
func (s *Slots) TryOnce() error {
	idle, err := s.idle()
	if err != nil {
		return err
	}
	if s.volume.files[idle].size == 0 {
		return fmt.Errorf("try slot %s: %w", idle, fs.ErrNotExist)
	}
	if err := s.volume.mark(idle); err != nil {
		return fmt.Errorf("try slot %s: %w", idle, err)
	}
	return s.set("BootNext", []uint16{idle.Entry()})
}

// Commit makes the firmware prefer the running slot from now on. What else
// stands in BootOrder stays behind the two slots in its order.
func (s *Slots) Commit() error {
	running, err := s.Running()
	if err != nil {
		return err
	}
	old, err := s.order()
	if err != nil {
		return err
	}
	order := []uint16{running.Entry(), running.Other().Entry()}
	for _, n := range old {
		if _, slot := fromEntry(n); !slot {
			order = append(order, n)
		}
	}
	if len(old) == 0 || old[0] != order[0] { // flash wears out
		if err := s.set("BootOrder", order); err != nil {
			return err
		}
	}
	return s.volume.mark(0)
}

// idle is the slot that may be written.
func (s *Slots) idle() (ID, error) {
	running, err := s.Running()
	if err != nil {
		return 0, err
	}
	preferred, err := s.Preferred()
	if err != nil {
		return 0, err
	}
	if running != preferred {
		return 0, ErrTrial
	}
	return running.Other(), nil
}

func (s *Slots) order() ([]uint16, error) {
	raw, err := s.vars.Get("BootOrder")
	if err != nil {
		return nil, fmt.Errorf("read BootOrder: %w", err)
	}
	if len(raw)%2 != 0 || len(raw) > 256 {
		return nil, fmt.Errorf("BootOrder of %d bytes", len(raw))
	}
	var order []uint16
	for ; len(raw) > 0; raw = raw[2:] {
		order = append(order, binary.LittleEndian.Uint16(raw))
	}
	return order, nil
}

// set writes a list of boot entries and reads it back.
func (s *Slots) set(name string, entries []uint16) error {
	var value []byte
	for _, n := range entries {
		value = binary.LittleEndian.AppendUint16(value, n)
	}
	if err := s.vars.Set(name, value); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	got, err := s.vars.Get(name)
	if err != nil {
		return fmt.Errorf("read back %s: %w", name, err)
	}
	if string(got) != string(value) {
		return fmt.Errorf("set %s to % x: it reads back as % x", name, value, got)
	}
	return nil
}
