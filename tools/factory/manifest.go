package factory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"ringfence/firmware/state"
	wire "ringfence/provisioning/wire/factory"
)

// ReadManifest reads a shipping manifest file.
func ReadManifest(path string) (*wire.Manifest, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return wire.ParseManifest(raw)
}

// WriteManifest replaces a shipping manifest file in one step.
func WriteManifest(path string, m *wire.Manifest) error {
	raw, err := m.Encode()
	if err != nil {
		return err
	}
	return state.Write(path, raw)
}

// name is what operators call the manufacturer: the organization of its CA.
func (m *Manufacturer) name() string {
	if names := m.CA.Subject.Organization; len(names) > 0 {
		return names[0]
	}
	return m.CA.Subject.CommonName
}

// AddUnit adds a phone to the manifest file, which is made if it is not there.
// A serial number, EK or IDevID that is listed already is an error.
func AddUnit(path string, manufacturer *Manufacturer, unit wire.Unit) error {
	m, err := ReadManifest(path)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = &wire.Manifest{Manufacturer: manufacturer.name(), Created: time.Now().UTC(),
			Anchors: [][]byte{manufacturer.CA.Raw}}, nil
	}
	if err != nil {
		return err
	}
	if err := CheckFree(m, unit); err != nil {
		return err
	}
	m.Units = append(m.Units, unit)
	return WriteManifest(path, m)
}

// CheckFree reports a unit that a manifest lists already.
func CheckFree(m *wire.Manifest, unit wire.Unit) error {
	i := slices.IndexFunc(m.Units, func(u wire.Unit) bool { return u.Device == unit.Device || u.EK == unit.EK })
	if i >= 0 {
		return fmt.Errorf("manifest lists %s already (as %s, EK %s)", unit.Device, m.Units[i].Device, m.Units[i].EK)
	}
	return nil
}
