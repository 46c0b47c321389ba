package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// Machine is a running board. All methods are safe for concurrent use. When it
// has ended, by itself or by Kill, start another one with the same Config: disk,
// UEFI variables and TPM state persist.
type Machine struct {
	config  Config
	started time.Time
	console *Console
	monitor *monitor
	gpio    *gpio
	audio   *audio

	emulator *exec.Cmd
	tpm      *exec.Cmd
	helpers  sync.WaitGroup // readers of the machine's connections
	done     chan struct{}  // closed when everything has ended and was cleaned up
	err      error          // of the emulator; valid after done

	mu     sync.Mutex // also guards the setting of audio
	events []string
}

// Start boots a board. The machine lives until it powers off, Kill is called or
// ctx ends; then its processes are gone and its connections closed.
func Start(ctx context.Context, c Config) (*Machine, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("start machine %q: %w", c.Name, err)
	}
	m := &Machine{config: c, done: make(chan struct{})}
	if err := m.launch(); err != nil {
		return nil, fmt.Errorf("start machine %q: %w", c.Name, err)
	}
	go m.supervise(ctx) // ends with the machine; Wait and Kill wait for it
	if err := m.prepare(); err != nil {
		m.Kill()
		return nil, fmt.Errorf("start machine %q: %w%s", c.Name, err, m.complaints())
	}
	return m, nil
}

// plugs collects the sockets between this process and its children.
type plugs struct {
	near []*net.UnixConn
	far  []*os.File
}

// pair makes a connection; number is the descriptor that the child sees.
func (p *plugs) pair() (near *net.UnixConn, number int, err error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, 0, err
	}
	p.near = append(p.near, near)
	return near, p.add(far), nil
}

func (p *plugs) add(far *os.File) (number int) {
	p.far = append(p.far, far)
	return 2 + len(p.far) // exec.Cmd.ExtraFiles begin at 3
}

func (p *plugs) closeFar() {
	for _, f := range p.far {
		_ = f.Close() // the child has its own copy
	}
}

func (p *plugs) closeNear() {
	for _, c := range p.near {
		_ = c.Close() // nothing is buffered on our side
	}
}

// launch starts the TPM and the emulator, stopped before its first instruction.
func (m *Machine) launch() (err error) {
	var p plugs
	defer p.closeFar()
	defer func() {
		if err != nil {
			p.closeNear()
			m.endTPM()
		}
	}()
	var fd descriptors
	var console, qmp, qtest *net.UnixConn
	for _, line := range []struct {
		near   **net.UnixConn
		number *int
	}{{&console, &fd.console}, {&qmp, &fd.qmp}, {&qtest, &fd.qtest}} {
		if *line.near, *line.number, err = p.pair(); err != nil {
			return err
		}
	}
	if err := m.plugBackends(&p, &fd); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(m.config.Dir, "console.log"))
	if err != nil {
		return fmt.Errorf("create console log: %w", err)
	}
	if err := m.startEmulator(&p, fd); err != nil {
		return errors.Join(err, log.Close())
	}
	m.console = newConsole(console)
	m.monitor = newMonitor(qmp, m.addEvent)
	m.gpio = newGPIO(qtest, m.config.Spec.GPIO)
	m.helpers.Go(func() {
		defer log.Close()
		m.console.capture(console, log)
	})
	m.helpers.Go(m.monitor.receive)
	m.helpers.Go(m.gpio.receive)
	return nil
}

func (m *Machine) plugBackends(p *plugs, fd *descriptors) error {
	if m.config.TPMDir != "" {
		cmd, far, err := startTPM(m.config.TPMDir, filepath.Join(m.config.Dir, "tpm.log"), true)
		if err != nil {
			return err
		}
		m.tpm, fd.tpm = cmd, p.add(far)
	}
	if m.config.Network != nil {
		far, err := m.config.Network.Attach(m.config.Name)
		if err != nil {
			return fmt.Errorf("attach to the network: %w", err)
		}
		fd.network = p.add(far)
	}
	return nil
}

func (m *Machine) startEmulator(p *plugs, fd descriptors) error {
	log, err := os.Create(filepath.Join(m.config.Dir, "qemu.log"))
	if err != nil {
		return fmt.Errorf("create emulator log: %w", err)
	}
	defer log.Close() // the child has its own copy
	m.emulator = exec.Command(m.config.Spec.Emulator, m.config.arguments(fd)...)
	m.emulator.Stdout, m.emulator.Stderr = log, log
	m.emulator.ExtraFiles = p.far
	own(m.emulator)
	m.started = time.Now()
	if err := m.emulator.Start(); err != nil {
		return fmt.Errorf("start emulator: %w", err)
	}
	return nil
}

// prepare connects everything that must be there before the guest runs, and
// lets it run.
func (m *Machine) prepare() error {
	if err := m.monitor.execute("qmp_capabilities", nil); err != nil {
		return err
	}
	a, err := startAudio(m.monitor, m.config.Spec.Sound)
	if err != nil {
		return fmt.Errorf("start audio: %w", err)
	}
	m.mu.Lock()
	m.audio = a
	m.mu.Unlock()
	if err := m.gpio.find(m.monitor); err != nil {
		return fmt.Errorf("find the GPIO controller: %w", err)
	}
	if err := m.Hook(m.config.Hook); err != nil {
		return err
	}
	return m.monitor.execute("cont", nil)
}

// supervise ends the machine with ctx and cleans up after it.
func (m *Machine) supervise(ctx context.Context) {
	exited := make(chan struct{})
	go func() { // ends with the emulator
		m.err = m.emulator.Wait()
		close(exited)
	}()
	select {
	case <-ctx.Done():
		_ = killGroup(m.emulator) // fails only if it is gone
		<-exited
	case <-exited:
	}
	m.endTPM()
	m.helpers.Wait() // each reader sees the end of its connection
	_ = m.console.input.(*net.UnixConn).Close()
	_ = m.monitor.conn.Close()
	_ = m.gpio.conn.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.audio != nil {
		m.audio.close()
	}
	close(m.done)
}

// endTPM waits for the TPM, which ends when its connection closes, so that its
// state is complete on disk; it is killed when it does not.
func (m *Machine) endTPM() {
	if m.tpm == nil {
		return
	}
	timer := time.AfterFunc(5*time.Second, func() { _ = killGroup(m.tpm) }) // fails only if it is gone
	defer timer.Stop()
	_ = m.tpm.Wait() // its exit status after a power cut says nothing
}

func (m *Machine) addEvent(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, name)
}

// complaints is what the emulator wrote before it gave up.
func (m *Machine) complaints() string {
	text, err := os.ReadFile(filepath.Join(m.config.Dir, "qemu.log"))
	if err != nil || len(text) == 0 {
		return ""
	}
	return "\nemulator: " + string(text[max(0, len(text)-tailBytes):])
}
