package slot

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// Place writes image into a slot of a disk that no phone is running from, by
// the same steps as an update. It is for the factory and for repair.
func Place(disk Disk, id ID, image []byte) error {
	v, err := openVolume(disk)
	if err != nil {
		return err
	}
	if v.files[id] == nil {
		return fmt.Errorf("place image: no slot %q", byte(id))
	}
	if err := v.write(id, bytes.NewReader(image), int64(len(image)), sha256.Sum256(image)); err != nil {
		return fmt.Errorf("place image in slot %s: %w", id, err)
	}
	return nil
}
