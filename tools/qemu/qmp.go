package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmpTimeout bounds one command; a screenshot of a busy machine takes the longest.
const qmpTimeout = 30 * time.Second

// monitor speaks QMP (QEMU Machine Protocol) on one connection.
type monitor struct {
	conn    *net.UnixConn
	replies chan reply
	events  func(name string)

	mu sync.Mutex // one command at a time
}

type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
}

func newMonitor(conn *net.UnixConn, events func(string)) *monitor {
	return &monitor{conn: conn, replies: make(chan reply, 1), events: events}
}

// receive delivers replies and events until the connection ends.
func (m *monitor) receive() {
	defer close(m.replies)
	decoder := json.NewDecoder(bufio.NewReader(m.conn))
	for {
		var r reply
		if err := decoder.Decode(&r); err != nil {
			return
		}
		switch {
		case r.Event != "":
			m.events(r.Event)
		case r.Return != nil || r.Error != nil:
			m.replies <- r
		}
	}
}

// run executes a command; result may be nil. fd is passed along when >= 0.
func (m *monitor) run(command string, arguments, result any, fd int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	message := map[string]any{"execute": command}
	if arguments != nil {
		message["arguments"] = arguments
	}
	line, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode %s: %w", command, err)
	}
	if _, _, err := m.conn.WriteMsgUnix(append(line, '\n'), rights(fd), nil); err != nil {
		return fmt.Errorf("send %s: %w", command, errors.Join(ErrExited, err))
	}
	select {
	case r, ok := <-m.replies:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", command, ErrExited)
		case r.Error != nil:
			return fmt.Errorf("%s: %s: %s", command, r.Error.Class, r.Error.Desc)
		case result == nil:
			return nil
		}
		if err := json.Unmarshal(r.Return, result); err != nil {
			return fmt.Errorf("decode the answer to %s: %w", command, err)
		}
		return nil
	case <-time.After(qmpTimeout):
		// A late answer would be taken for the next command's: end the connection.
		_ = m.conn.Close()
		return fmt.Errorf("%s: no answer in %v", command, qmpTimeout)
	}
}

func (m *monitor) execute(command string, arguments any) error {
	return m.run(command, arguments, nil, -1)
}
