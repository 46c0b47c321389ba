package qemu

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LampEvent is one change of the lamp.
type LampEvent struct {
	Time time.Time
	Lit  bool
}

// gpio drives and watches the lines of the board's GPIO controller by qtest.
type gpio struct {
	conn    *net.UnixConn
	path    string // QOM path of the controller
	lines   GPIO
	replies chan string

	command sync.Mutex // one command at a time

	mu      sync.Mutex
	lit     bool
	history []LampEvent
	changed chan struct{}
}

func newGPIO(conn *net.UnixConn, lines GPIO) *gpio {
	return &gpio{conn: conn, lines: lines, replies: make(chan string, 1), changed: make(chan struct{})}
}

// find looks the controller up in QEMU's object tree.
func (g *gpio) find(m *monitor) error {
	const parent = "/machine/unattached"
	var children []struct{ Name, Type string }
	if err := m.run("qom-list", map[string]string{"path": parent}, &children, -1); err != nil {
		return err
	}
	for _, child := range children {
		if child.Type == "child<"+g.lines.Controller+">" {
			g.path = parent + "/" + child.Name
			return g.run("irq_intercept_out " + g.path)
		}
	}
	return fmt.Errorf("the machine has no %s", g.lines.Controller)
}

// receive delivers replies and lamp changes until the connection ends.
func (g *gpio) receive() {
	defer close(g.replies)
	scanner := bufio.NewScanner(g.conn)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) == 3 && fields[0] == "IRQ" {
			if fields[2] == strconv.Itoa(g.lines.Lamp) {
				g.record(fields[1] == "raise")
			}
			continue
		}
		g.replies <- scanner.Text()
	}
}

func (g *gpio) record(lit bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if lit == g.lit {
		return
	}
	g.lit = lit
	g.history = append(g.history, LampEvent{Time: time.Now(), Lit: lit})
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *gpio) run(command string) error {
	g.command.Lock()
	defer g.command.Unlock()
	if _, err := fmt.Fprintln(g.conn, command); err != nil {
		return fmt.Errorf("qtest %s: %w", command, err)
	}
	select {
	case answer, ok := <-g.replies:
		switch {
		case !ok:
			return fmt.Errorf("qtest %s: %w", command, ErrExited)
		case !strings.HasPrefix(answer, "OK"):
			return fmt.Errorf("qtest %s: answer %q", command, answer)
		}
		return nil
	case <-time.After(qmpTimeout):
		_ = g.conn.Close() // as in monitor.run
		return fmt.Errorf("qtest %s: no answer in %v", command, qmpTimeout)
	}
}

func (g *gpio) setHook(off bool) error {
	level := 0
	if off {
		level = 1
	}
	return g.run(fmt.Sprintf("set_irq_in %s unnamed-gpio-in %d %d", g.path, g.lines.Hook, level))
}
