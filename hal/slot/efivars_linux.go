package slot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// EFIVars are the variables in a mounted efivarfs. The mount is read-only but
// for the moment of a Set, so that nothing else of the phone writes there.
//
// Source: Linux Documentation/filesystems/efivarfs.rst: each file is 32 bits
// of attributes and the value, replaced by one write.
type EFIVars struct {
	Dir string // mount point
}

var _ Variables = EFIVars{}

// guidGlobal is EFI_GLOBAL_VARIABLE (UEFI 2.10, 3.3).
const guidGlobal = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

// attributes: non-volatile, boot service access, runtime access.
const attributes = 7

const maxVariable = 4096

func (e EFIVars) path(name string) string { return filepath.Join(e.Dir, name+"-"+guidGlobal) }

// Get implements Variables.
func (e EFIVars) Get(name string) ([]byte, error) {
	raw, err := os.ReadFile(e.path(name))
	if err != nil {
		return nil, err
	}
	if len(raw) < 4 || len(raw) > maxVariable {
		return nil, fmt.Errorf("variable %s of %d bytes", name, len(raw))
	}
	return raw[4:], nil
}

// Set implements Variables.
func (e EFIVars) Set(name string, value []byte) (err error) {
	if err := e.remount(0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.remount(unix.MS_RDONLY)) }()
	f, err := os.OpenFile(e.path(name), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, attributes), value...))
	return errors.Join(err, f.Close())
}

func (e EFIVars) remount(readOnly uintptr) error {
	const strict = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("", e.Dir, "", unix.MS_REMOUNT|strict|readOnly, ""); err != nil {
		return fmt.Errorf("remount %s: %w", e.Dir, err)
	}
	return nil
}
