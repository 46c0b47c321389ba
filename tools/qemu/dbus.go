package qemu

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
)

// D-Bus message types and flags ("Message Format" in the D-Bus specification).
const (
	dbusCall    = 1
	dbusReturn  = 2
	dbusError   = 3
	dbusNoReply = 1 // flag: the caller expects no answer

	dbusMaxMessage = 1 << 20 // QEMU's largest is one audio chunk, a few KiB
)

// Header field codes ("Header Fields" in the D-Bus specification).
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldSender      = 7
	fieldSignature   = 8
	fieldUnixFDs     = 9
)

// dbusMessage is one message in the form that this package needs.
type dbusMessage struct {
	kind, flags          byte
	serial, reply        uint32
	path, iface, member  string
	signature, errorName string
	body                 []byte
}

// dbusConn is a peer-to-peer D-Bus connection. send is safe for concurrent use,
// receive is not.
type dbusConn struct {
	conn   *net.UnixConn
	reader *bufio.Reader

	mu     sync.Mutex
	serial uint32
}

// dialDBus authenticates as the client of a peer-to-peer connection, on which
// there is no bus and so no Hello ("Authentication Protocol").
func dialDBus(conn *net.UnixConn) (*dbusConn, error) {
	c := &dbusConn{conn: conn, reader: bufio.NewReaderSize(conn, 1<<16)}
	// GDBus reads the credentials that come with the leading NUL byte.
	if _, _, err := conn.WriteMsgUnix([]byte{0}, credentials(), nil); err != nil {
		return nil, fmt.Errorf("send credentials: %w", err)
	}
	uid := hex.EncodeToString([]byte(strconv.Itoa(os.Getuid())))
	for _, step := range []struct{ say, want string }{{"AUTH EXTERNAL " + uid, "OK"}, {"NEGOTIATE_UNIX_FD", "AGREE_UNIX_FD"}} {
		if _, err := fmt.Fprintf(conn, "%s\r\n", step.say); err != nil {
			return nil, fmt.Errorf("authenticate: %w", err)
		}
		answer, err := c.reader.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("authenticate: %w", err)
		}
		if !strings.HasPrefix(answer, step.want) {
			return nil, fmt.Errorf("authenticate: %s was answered by %q", step.say, strings.TrimSpace(answer))
		}
	}
	if _, err := io.WriteString(conn, "BEGIN\r\n"); err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	return c, nil
}

// send numbers and writes a message with at most one descriptor (fd >= 0).
func (c *dbusConn) send(m *dbusMessage, fd int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	m.serial = c.serial
	if _, _, err := c.conn.WriteMsgUnix(m.marshal(fd >= 0), rights(fd), nil); err != nil {
		return fmt.Errorf("send D-Bus message: %w", err)
	}
	return nil
}

func (m *dbusMessage) marshal(withFD bool) []byte {
	e := &dbusEncoder{bytes: []byte{'l', m.kind, m.flags, 1}}
	e.uint32(uint32(len(m.body)))
	e.uint32(m.serial)
	lengthAt := len(e.bytes)
	e.uint32(0)
	start := len(e.bytes)
	e.stringField(fieldPath, "o", m.path)
	e.stringField(fieldInterface, "s", m.iface)
	e.stringField(fieldMember, "s", m.member)
	if m.kind == dbusCall {
		// QEMU 7.2 hashes the sender's name and crashes where there is none,
		// although peer-to-peer connections have no names.
		e.stringField(fieldSender, "s", ":1.1")
	}
	e.uint32Field(fieldReplySerial, m.reply)
	if m.signature != "" {
		e.field(fieldSignature, "g")
		e.signature(m.signature)
	}
	if withFD {
		e.uint32Field(fieldUnixFDs, 1)
	}
	binary.LittleEndian.PutUint32(e.bytes[lengthAt:], uint32(len(e.bytes)-start))
	e.align(8)
	return append(e.bytes, m.body...)
}

// receive reads the next message; its size is bounded.
func (c *dbusConn) receive() (*dbusMessage, error) {
	var fixed [16]byte
	if _, err := io.ReadFull(c.reader, fixed[:]); err != nil {
		return nil, fmt.Errorf("read D-Bus message: %w", err)
	}
	if fixed[0] != 'l' {
		return nil, fmt.Errorf("read D-Bus message: byte order %q is not supported", fixed[0])
	}
	bodyLength := binary.LittleEndian.Uint32(fixed[4:])
	fieldsLength := binary.LittleEndian.Uint32(fixed[12:])
	if bodyLength > dbusMaxMessage || fieldsLength > dbusMaxMessage {
		return nil, errors.New("read D-Bus message: too long")
	}
	padded := (int(fieldsLength) + 7) &^ 7
	rest := make([]byte, padded+int(bodyLength))
	if _, err := io.ReadFull(c.reader, rest); err != nil {
		return nil, fmt.Errorf("read D-Bus message: %w", err)
	}
	m := &dbusMessage{kind: fixed[1], flags: fixed[2], serial: binary.LittleEndian.Uint32(fixed[8:]), body: rest[padded:]}
	return m, m.parseFields(rest[:fieldsLength])
}

func (m *dbusMessage) parseFields(fields []byte) error {
	d := &dbusDecoder{bytes: fields}
	for d.err == nil && d.at < len(fields) {
		d.align(8)
		code, signature := d.byte(), d.signature()
		switch signature {
		case "s", "o":
			m.setString(code, d.string())
		case "g":
			m.setString(code, d.signature())
		case "u":
			if value := d.uint32(); code == fieldReplySerial {
				m.reply = value
			}
		default:
			return fmt.Errorf("parse D-Bus header: field %d of type %q", code, signature)
		}
	}
	return d.err
}

func (m *dbusMessage) setString(code byte, value string) {
	switch code {
	case fieldPath:
		m.path = value
	case fieldInterface:
		m.iface = value
	case fieldMember:
		m.member = value
	case fieldErrorName:
		m.errorName = value
	case fieldSignature:
		m.signature = value
	}
}
