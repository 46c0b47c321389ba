package tuf

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxStored bounds a file of the store, in bytes.
const maxStored = maxTargets

// Dir is a [Store] in a folder that exists. A file is replaced as a whole and
// is on the disk when Save returns.
type Dir string

var _ Store = Dir("")

// Load reads a file of the folder.
func (d Dir) Load(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(d), filepath.Base(name)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStored+1))
	if err == nil && len(data) > maxStored {
		err = fmt.Errorf("%s has more than %d bytes", name, maxStored)
	}
	return data, err
}

// Save writes a new file beside the old one and puts it in its place.
func (d Dir) Save(name string, data []byte) error {
	final := filepath.Join(string(d), filepath.Base(name))
	temp := filepath.Join(string(d), ".new") // one writer; a left-over is overwritten
	if err := writeSync(temp, data); err != nil {
		return err
	}
	if err := os.Rename(temp, final); err != nil {
		return err
	}
	folder, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

func writeSync(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
