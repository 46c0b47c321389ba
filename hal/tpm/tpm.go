// Package tpm reaches the phone's TPM 2.0: command transport, the SHA-256 PCR
// bank and the NV indices that hold version floors. It makes no keys and judges
// no values. A phone without a TPM gets an error, never a silent pass.
//
// Specifications: TPM 2.0 Library part 3 (TPM2_PCR_Read, TPM2_PCR_Extend,
// TPM2_NV_*), Linux tpmrm character device.
package tpm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// ErrAbsent reports that the board has no TPM. It is a reason to refuse, not
// one to go on without.
var ErrAbsent = errors.New("no TPM")

// ErrClosed reports a command to a TPM that was closed.
var ErrClosed = errors.New("TPM is closed")

// Path is the kernel's resource-managed TPM device.
const Path = "/dev/tpmrm0"

// Device is an open TPM. It is safe for concurrent use: one command at a time.
type Device struct {
	mu   sync.Mutex
	conn transport.TPMCloser
}

var _ transport.TPMCloser = (*Device)(nil)

// New wraps an open transport, which the Device then owns.
func New(conn transport.TPMCloser) (*Device, error) {
	if conn == nil {
		return nil, ErrAbsent
	}
	return &Device{conn: conn}, nil
}

// Send passes one command and returns its response.
func (d *Device) Send(command []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil, ErrClosed
	}
	response, err := d.conn.Send(command)
	if err != nil {
		return nil, fmt.Errorf("TPM command: %w", err)
	}
	// Part 1, 18.3: tag, size and response code are always there.
	if len(response) < 10 {
		return nil, fmt.Errorf("TPM response of %d bytes, want at least 10", len(response))
	}
	return response, nil
}

// Close closes the transport. Later commands return ErrClosed.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	return err
}

// maxPCR is the highest PCR of a PC Client TPM (PTP 1.05, 3.7).
const maxPCR = 23

// ReadPCR returns the SHA-256 value of PCR index (0 to 23).
func (d *Device) ReadPCR(index int) ([sha256.Size]byte, error) {
	var value [sha256.Size]byte
	if index < 0 || index > maxPCR {
		return value, fmt.Errorf("read PCR %d: no such register", index)
	}
	response, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(uint(index)),
	}}}}.Execute(d)
	if err != nil {
		return value, fmt.Errorf("read PCR %d: %w", index, err)
	}
	digests := response.PCRValues.Digests
	if len(digests) != 1 || len(digests[0].Buffer) != len(value) {
		return value, fmt.Errorf("read PCR %d: the TPM has no SHA-256 bank", index)
	}
	copy(value[:], digests[0].Buffer)
	return value, nil
}

// ExtendPCR extends PCR index (0 to 23) of the SHA-256 bank with digest.
func (d *Device) ExtendPCR(index int, digest [sha256.Size]byte) error {
	if index < 0 || index > maxPCR {
		return fmt.Errorf("extend PCR %d: no such register", index)
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]},
		}},
	}.Execute(d)
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", index, err)
	}
	return nil
}
