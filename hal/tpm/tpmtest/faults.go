package tpmtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrInjected is the failure that Faults makes.
var ErrInjected = errors.New("injected TPM failure")

// Fault is a way to fail.
type Fault int

// The ways: the command is lost, or the response is cut after 6 bytes.
const (
	Lost Fault = iota + 1
	Short
)

// Faults is a transport that fails from the n-th command on.
type Faults struct {
	mu    sync.Mutex
	conn  io.ReadWriteCloser
	count int
	at    int // 0: never
	kind  Fault
}

// FailAt makes every command from the n-th after this call (1 = the next) fail.
// n = 0 heals the TPM.
func (f *Faults) FailAt(n int, kind Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.at, f.kind = 0, n, kind
}

// Count returns how many commands came since FailAt.
func (f *Faults) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Send implements transport.TPM.
func (f *Faults) Send(command []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	failing := f.at != 0 && f.count >= f.at
	if failing && f.kind == Lost {
		return nil, ErrInjected
	}
	if _, err := f.conn.Write(command); err != nil {
		return nil, err
	}
	response, err := readResponse(f.conn)
	if failing && err == nil {
		return response[:6], nil
	}
	return response, err
}

// Close implements io.Closer.
func (f *Faults) Close() error { return f.conn.Close() }

func readResponse(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size < 10 || size > 8192 {
		return nil, fmt.Errorf("swtpm response of %d bytes", size)
	}
	response := append(head, make([]byte, size-10)...)
	_, err := io.ReadFull(r, response[10:])
	return response, err
}
