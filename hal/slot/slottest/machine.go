// Package slottest is a phone's durable memory made of Go values: a disk whose
// cache loses writes, UEFI variables, a TPM counter and a state file. Every
// change goes into one log, and the log can be cut anywhere. It simulates no
// processor and no torn sector.
//
// Model (after CrashMonkey and Linux' dm-log-writes): sectors written since the
// last flush are on the medium in any combination; a UEFI variable, a TPM NV
// write and a synced file are there when the call returns, and in order.
package slottest

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"

	"ringfence/hal/slot"
)

const sector = 512

type block [sector]byte

// kind is what a log entry changed.
type kind int

const (
	kindSector kind = iota + 1
	kindFlush
	kindVariable
	kindFloor
	kindFile
)

type entry struct {
	kind  kind
	at    int64 // sector, or the floor's value
	data  *block
	name  string
	value []byte // nil: variable removed
}

// Machine is a phone's durable memory. Not safe for concurrent use.
type Machine struct {
	under  *Machine // read where sectors has nothing; never written
	size   int64
	disk   map[int64]*block
	vars   map[string][]byte
	floor  uint64
	file   []byte
	log    []entry
	record bool

	current slot.ID // BootCurrent; not durable
}

// NewMachine formats a disk of size bytes with slots of capacity bytes. Slot A
// is preferred; behind the slots BootOrder has an entry of the firmware's own.
func NewMachine(size, capacity int64) (*Machine, error) {
	m := &Machine{size: size, disk: map[int64]*block{}, vars: map[string][]byte{
		"BootOrder": {0xa0, 0, 0xb0, 0, 1, 0},
	}}
	return m, slot.Format(m.Disk(), size, capacity)
}

// Fork returns a copy to go on with; m must not change while it is used.
func (m *Machine) Fork() *Machine {
	f := &Machine{under: m, size: m.size, disk: map[int64]*block{}, vars: map[string][]byte{}, floor: m.floor, file: m.file}
	for k, v := range m.vars {
		f.vars[k] = v
	}
	return f
}

// Record starts the log.
func (m *Machine) Record() { m.record, m.log = true, nil }

// Writes is how many entries the log has.
func (m *Machine) Writes() int { return len(m.log) }

func (m *Machine) put(e entry) {
	if m.record {
		m.log = append(m.log, e)
	}
	m.apply(e)
}

func (m *Machine) apply(e entry) {
	switch e.kind {
	case kindSector:
		m.disk[e.at] = e.data
	case kindVariable:
		if e.value == nil {
			delete(m.vars, e.name)
		} else {
			m.vars[e.name] = e.value
		}
	case kindFloor:
		m.floor = uint64(e.at)
	case kindFile:
		m.file = e.value
	}
}

// Cuts calls check for every power cut of the log of m, which was recorded
// from a fork of start: after each entry once with all of the cached sectors
// on the medium, and subsets times with a random choice of them. It returns how
// many cuts there were and stops at the first error.
func (m *Machine) Cuts(start *Machine, subsets int, seed uint64, check func(cut int, after *Machine) error) (int, error) {
	random := rand.New(rand.NewPCG(seed, 0))
	durable := start.Fork()
	var cached []entry
	cuts := 0
	for n := 0; n <= len(m.log); n++ {
		for i := 0; i <= subsets; i++ {
			if i > 0 && len(cached) == 0 {
				break
			}
			after := durable.Fork()
			for _, e := range cached {
				if i == 0 || random.IntN(2) == 0 {
					after.apply(e)
				}
			}
			cuts++
			if err := check(n, after); err != nil {
				return cuts, fmt.Errorf("power cut after write %d (choice %d): %w", n, i, err)
			}
		}
		if n == len(m.log) {
			break
		}
		switch e := m.log[n]; e.kind {
		case kindSector:
			cached = append(cached, e)
		case kindFlush:
			for _, c := range cached {
				durable.apply(c)
			}
			cached = nil
		default:
			durable.apply(e)
		}
	}
	return cuts, nil
}

// Disk returns the disk.
func (m *Machine) Disk() slot.Disk { return disk{m} }

type disk struct{ m *Machine }

func (d disk) sector(n int64) *block {
	for m := d.m; m != nil; m = m.under {
		if b := m.disk[n]; b != nil {
			return b
		}
	}
	return new(block)
}

func (d disk) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= d.m.size {
			return done, io.EOF
		}
		done += copy(p[done:], d.sector(at / sector)[at%sector:])
	}
	return done, nil
}

func (d disk) WriteAt(p []byte, off int64) (int, error) {
	if off%sector != 0 || len(p)%sector != 0 || off < 0 || off+int64(len(p)) > d.m.size {
		return 0, fmt.Errorf("write of %d bytes at %d: not whole sectors of the disk", len(p), off)
	}
	for i := 0; i < len(p); i += sector {
		b := block(p[i : i+sector])
		d.m.put(entry{kind: kindSector, at: (off + int64(i)) / sector, data: &b})
	}
	return len(p), nil
}

func (d disk) Sync() error {
	d.m.put(entry{kind: kindFlush})
	return nil
}

// Variables returns the UEFI variables.
func (m *Machine) Variables() slot.Variables { return variables{m} }

type variables struct{ m *Machine }

func (v variables) Get(name string) ([]byte, error) {
	if name == "BootCurrent" && v.m.current != 0 {
		return []byte{byte(v.m.current.Entry()), 0}, nil
	}
	value, ok := v.m.vars[name]
	if !ok {
		return nil, fmt.Errorf("variable %s: %w", name, fs.ErrNotExist)
	}
	return value, nil
}

func (v variables) Set(name string, value []byte) error {
	v.m.put(entry{kind: kindVariable, name: name, value: append([]byte{}, value...)})
	return nil
}

// Floor is the TPM's NV counter: it has the methods of tpm.Floor.
type Floor struct{ m *Machine }

// Floor returns the counter.
func (m *Machine) Floor() Floor { return Floor{m} }

// Read returns the value.
func (f Floor) Read() (uint64, error) { return f.m.floor, nil }

// Raise sets a value that is not lower.
func (f Floor) Raise(value uint64) error {
	if value < f.m.floor {
		return fmt.Errorf("floor would fall from %d to %d", f.m.floor, value)
	}
	f.m.put(entry{kind: kindFloor, at: int64(value)})
	return nil
}

// File is one small file that is replaced atomically and durably.
type File struct{ m *Machine }

// File returns the file.
func (m *Machine) File() File { return File{m} }

// Load returns the content; fs.ErrNotExist before the first Save.
func (f File) Load() ([]byte, error) {
	if f.m.file == nil {
		return nil, fs.ErrNotExist
	}
	return f.m.file, nil
}

// Save replaces the content.
func (f File) Save(data []byte) error {
	f.m.put(entry{kind: kindFile, value: append([]byte{}, data...)})
	return nil
}
