package slot

import (
	"bytes"
	"errors"
	"fmt"
)

// markText begins the mark's sector; the slot's letter follows.
const markText = "ringfence trial: "

// marked returns the slot that the mark names, 0 for none.
func (v *volume) marked() (ID, error) {
	raw := make([]byte, sector)
	if _, err := v.disk.ReadAt(raw, v.trial); err != nil {
		return 0, fmt.Errorf("read the mark: %w", err)
	}
	rest, ok := bytes.CutPrefix(raw, []byte(markText))
	if id := ID(rest[0]); ok && (id == A || id == B) {
		return id, nil
	}
	return 0, nil
}

// mark names a slot, or none for 0. It returns once the medium has it.
func (v *volume) mark(id ID) error {
	if old, err := v.marked(); err != nil || old == id {
		return err
	}
	raw := make([]byte, sector)
	if id != 0 {
		copy(raw, append([]byte(markText), byte(id)))
	}
	if _, err := v.disk.WriteAt(raw, v.trial); err != nil {
		return fmt.Errorf("write the mark: %w", err)
	}
	if err := v.disk.Sync(); err != nil {
		return fmt.Errorf("sync the mark: %w", err)
	}
	if now, err := v.marked(); err != nil || now != id {
		return errors.Join(errors.New("the mark reads back differently"), err)
	}
	return nil
}
