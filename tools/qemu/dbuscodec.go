package qemu

import (
	"encoding/binary"
	"errors"
)

// dbusEncoder marshals the few types that audio needs, little endian.
type dbusEncoder struct{ bytes []byte }

func (e *dbusEncoder) align(n int) {
	for len(e.bytes)%n != 0 {
		e.bytes = append(e.bytes, 0)
	}
}

func (e *dbusEncoder) uint32(v uint32) {
	e.align(4)
	e.bytes = binary.LittleEndian.AppendUint32(e.bytes, v)
}

func (e *dbusEncoder) string(s string) {
	e.uint32(uint32(len(s)))
	e.bytes = append(append(e.bytes, s...), 0)
}

func (e *dbusEncoder) signature(s string) {
	e.bytes = append(append(append(e.bytes, byte(len(s))), s...), 0)
}

func (e *dbusEncoder) field(code byte, signature string) {
	e.align(8)
	e.bytes = append(e.bytes, code)
	e.signature(signature)
}

func (e *dbusEncoder) stringField(code byte, signature, value string) {
	if value != "" {
		e.field(code, signature)
		e.string(value)
	}
}

func (e *dbusEncoder) uint32Field(code byte, value uint32) {
	if value != 0 {
		e.field(code, "u")
		e.uint32(value)
	}
}

var errShortMessage = errors.New("parse D-Bus message: it ends too early")

// dbusDecoder reads the same types. After the first error every read returns
// zero and err stays set.
type dbusDecoder struct {
	bytes []byte
	at    int
	err   error
}

func (d *dbusDecoder) take(n int) []byte {
	if d.err == nil && (n < 0 || n > len(d.bytes)-d.at) {
		d.err = errShortMessage
	}
	if d.err != nil {
		return nil
	}
	d.at += n
	return d.bytes[d.at-n : d.at]
}

func (d *dbusDecoder) align(n int) { d.take((n - d.at%n) % n) }

func (d *dbusDecoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *dbusDecoder) uint32() uint32 {
	d.align(4)
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *dbusDecoder) uint64() uint64 {
	d.align(8)
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// array reads an array of bytes; the result aliases the message.
func (d *dbusDecoder) array() []byte { return d.take(int(d.uint32())) }

func (d *dbusDecoder) string() string {
	s := string(d.array())
	d.take(1)
	return s
}

func (d *dbusDecoder) signature() string {
	s := string(d.take(int(d.byte())))
	d.take(1)
	return s
}
