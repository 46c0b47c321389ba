package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// NV indices of the version floors, in the range that the TCG registry leaves
// to owners (Registry of Reserved TPM 2.0 Handles, 2.2.2).
const (
	ConfigFloor  uint32 = 0x01807401 // locked configuration
	ReleaseFloor uint32 = 0x01807402 // firmware release
)

// ErrNoFloor reports that the NV index was never defined, or was removed: the
// holder of the floor must refuse rather than start again from zero.
var ErrNoFloor = errors.New("version floor is not defined in the TPM")

const floorSize = 8 // bytes, big-endian

// Floor is a number in TPM NV that only grows. Not safe for two writers at once.
type Floor struct {
	device *Device
	index  uint32
}

// Floor returns the floor kept in the NV index. It sends no command.
func (d *Device) Floor(index uint32) *Floor { return &Floor{device: d, index: index} }

// Define makes the index with value 0; an index that exists keeps its value.
func (f *Floor) Define() error {
	_, err := f.Read()
	if err == nil || !errors.Is(err, ErrNoFloor) && !errors.Is(err, tpm2.TPMRCNVUninitialized) {
		return err
	}
	if errors.Is(err, ErrNoFloor) {
		if err := f.defineSpace(); err != nil {
			return fmt.Errorf("define floor %#x: %w", f.index, err)
		}
	}
	return f.write(0)
}

func (f *Floor) defineSpace() error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: owner(),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm2.TPMHandle(f.index),
			NameAlg: tpm2.TPMAlgSHA256,
			Attributes: tpm2.TPMANV{
				OwnerWrite: true, OwnerRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary,
			},
			DataSize: floorSize,
		}),
	}.Execute(f.device)
	return err
}

// Read returns the floor; ErrNoFloor when the index is not there.
func (f *Floor) Read() (uint64, error) {
	name, err := f.name()
	if err != nil {
		return 0, err
	}
	response, err := tpm2.NVRead{AuthHandle: owner(), NVIndex: name, Size: floorSize}.Execute(f.device)
	if err != nil {
		return 0, fmt.Errorf("read floor %#x: %w", f.index, err)
	}
	if len(response.Data.Buffer) != floorSize {
		return 0, fmt.Errorf("read floor %#x: %d bytes, want %d", f.index, len(response.Data.Buffer), floorSize)
	}
	return binary.BigEndian.Uint64(response.Data.Buffer), nil
}

// Raise sets the floor to value and reads it back. A value below the floor is
// an error; the present value is left without a write (NV cells wear out).
func (f *Floor) Raise(value uint64) error {
	now, err := f.Read()
	if err != nil {
		return err
	}
	if value < now {
		return fmt.Errorf("raise floor %#x to %d: it is at %d already", f.index, value, now)
	}
	if value == now {
		return nil
	}
	if err := f.write(value); err != nil {
		return err
	}
	if now, err = f.Read(); err != nil {
		return err
	}
	if now != value {
		return fmt.Errorf("raise floor %#x to %d: reads back as %d", f.index, value, now)
	}
	return nil
}

func (f *Floor) write(value uint64) error {
	name, err := f.name()
	if err != nil {
		return err
	}
	_, err = tpm2.NVWrite{
		AuthHandle: owner(), NVIndex: name,
		Data: tpm2.TPM2BMaxNVBuffer{Buffer: binary.BigEndian.AppendUint64(nil, value)},
	}.Execute(f.device)
	if err != nil {
		return fmt.Errorf("write floor %#x: %w", f.index, err)
	}
	return nil
}

func (f *Floor) name() (tpm2.NamedHandle, error) {
	response, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(f.index)}.Execute(f.device)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return tpm2.NamedHandle{}, fmt.Errorf("floor %#x: %w", f.index, ErrNoFloor)
	}
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("read floor %#x: %w", f.index, err)
	}
	return tpm2.NamedHandle{Handle: tpm2.TPMHandle(f.index), Name: response.NVName}, nil
}

func owner() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
}
