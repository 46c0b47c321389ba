// Package uart opens serial lines as raw byte streams: 8 data bits, no parity,
// one stop bit. It does no framing; what is said on the factory line is
// provisioning/wire/factory.
package uart

import (
	"errors"
	"fmt"
	"io"
	"os"

	"go.bug.st/serial"

	"ringfence/hal"
)

// Baud is the speed of the factory line, in bits per second.
const Baud = 115200

// Open opens the serial line at path for reading and writing. Reads block
// until a byte arrives. The caller closes it. A missing device is hal.ErrAbsent.
func Open(path string, baud int) (io.ReadWriteCloser, error) {
	if baud <= 0 {
		return nil, fmt.Errorf("open serial line %s: speed %d", path, baud)
	}
	port, err := serial.Open(path, &serial.Mode{BaudRate: baud, DataBits: 8, Parity: serial.NoParity, StopBits: serial.OneStopBit})
	var perr *serial.PortError
	if errors.Is(err, os.ErrNotExist) || errors.As(err, &perr) && perr.Code() == serial.PortNotFound {
		return nil, fmt.Errorf("open serial line %s: %w", path, hal.ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open serial line %s: %w", path, err)
	}
	return port, nil
}
