package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/boards"
	"ringfence/boards/all"
	"ringfence/firmware/boot"
	"ringfence/firmware/measure"
	"ringfence/firmware/radio"
	"ringfence/firmware/supervise"
	"ringfence/firmware/sysctl"
	"ringfence/hal"
	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/report"
)

// machine is PID 1.
type machine struct {
	log      *slog.Logger
	console  *os.File
	board    boards.Board
	sup      *supervise.Supervisor
	measured *measure.Log
	blocker  radio.Blocker
	watchdog hal.Watchdog
	clean    evidence.RadioFinding
	hub      *hub
	slots    *slotKeeper // nil: the phone takes no updates
	gate     *gate
	ctx      context.Context // of the whole run; the zero machine has none
	work     sync.WaitGroup
	started  sync.Map // role name -> struct{}
}

// runInit is the main function of PID 1. It never returns: when PID 1 ends
// the kernel panics.
func runInit() {
	console := os.Stderr
	if err := mountAll(); err != nil {
		newLog(console, roleInit).Error("halted", "step", "mount", "error", err)
		halt()
	}
	// Write-only, so that what roles inherit cannot be read from.
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
		console = f
	}
	m := &machine{log: newLog(console, roleInit), console: console, ctx: context.Background(), hub: newHub()}
	m.stage("init", "secureboot", secureBootWord(measure.SecureBoot(efivars)))
	var stop *boot.HaltError
	degraded, err := boot.Run(m.ctx, boot.Config{Log: m.log, Stage: func(name string) { m.stage(name) }}, m.steps())
	if errors.As(err, &stop) {
		m.showHalt(stop)
	}
	if len(degraded) > 0 {
		m.event("boot.degraded", strings.Join(degraded, ","))
	}
	m.feed()
}

// steps is the boot list. Mounting the kernel's file systems comes before it:
// without them there is no console to say what failed.
func (m *machine) steps() []boot.Step {
	return []boot.Step{
		{Name: "board", OnFailure: boot.Halt, Run: m.chooseBoard},
		{Name: "clock", OnFailure: boot.Degrade, Run: checkClock},
		{Name: "watchdog", OnFailure: boot.Degrade, Run: m.armWatchdog},
		{Name: "slots", OnFailure: boot.Degrade, Run: m.openSlots},
		{Name: "lock", OnFailure: boot.Halt, Run: func(context.Context) error { return supervise.Lock() }},
		{Name: "supervisor", OnFailure: boot.Halt, Run: m.makeSupervisor},
		{Name: "secure boot", OnFailure: boot.Halt, Run: m.checkSecureBoot},
		{Name: "kernel", OnFailure: boot.Halt, Run: func(context.Context) error { return sysctl.Apply("/proc/sys") }},
		{Name: "measure", Stage: "measured", OnFailure: boot.Halt, Run: m.measureBoot},
		{Name: "radios", Stage: "radios", OnFailure: boot.Halt, Run: m.radiosOff},
		{Name: "network", OnFailure: boot.Halt, Run: func(context.Context) error { return m.start(roleNet) }},
		{Name: "state", OnFailure: boot.Halt, Run: func(context.Context) error { return mountState() }},
		{Name: "gate", OnFailure: boot.Degrade, Run: m.openGate},
		{Name: "roles", OnFailure: boot.Halt, Run: m.startRoles},
		{Name: "watch radios", OnFailure: boot.Halt, Run: m.watchRadios},
	}
}

func (m *machine) chooseBoard(context.Context) error {
	cmdline, err := os.ReadFile(cmdlinePath)
	if err != nil {
		return err
	}
	compatible, err := os.ReadFile("/proc/device-tree/compatible")
	if err != nil {
		return fmt.Errorf("read device tree: %w", err)
	}
	m.board, err = all.Choose(string(cmdline), compatible)
	return err
}

// checkClock says so when no hardware clock set the time: certificates then
// look as if they were not valid yet.
func checkClock(context.Context) error {
	if now := time.Now(); now.Year() < 2026 {
		return fmt.Errorf("the clock says %s: no hardware clock set it", now.UTC().Format(time.DateOnly))
	}
	return nil
}

func (m *machine) armWatchdog(context.Context) error {
	w, err := m.board.OpenWatchdog()
	if err != nil {
		return err
	}
	m.watchdog = w
	m.work.Go(func() { // for ever: a PID 1 that stands still is reset
		for {
			_ = w.Feed() // not fed is what the watchdog is for
			time.Sleep(5 * time.Second)
		}
	})
	return nil
}

func (m *machine) makeSupervisor(context.Context) error {
	s, err := supervise.New(supervise.Config{Binary: "/proc/self/exe", Env: []string{"GOMAXPROCS=2", "GOTRACEBACK=single"},
		Output: m.console, Log: m.log, Ended: m.ended})
	if err != nil {
		return err
	}
	m.sup = s
	m.work.Go(func() { s.Reap(m.ctx) })
	return nil
}

const efivars = "/sys/firmware/efi/efivars"

func secureBootWord(err error) string {
	switch {
	case err == nil:
		return "on"
	case errors.Is(err, measure.ErrNotSecure):
		return "off"
	}
	return "unreadable"
}

func (m *machine) checkSecureBoot(context.Context) error {
	if !m.board.UEFI {
		return nil
	}
	return measure.SecureBoot(efivars)
}

// measureBoot refuses a boot that was not measured and then measures the
// device tree, before anything is believed that it says.
func (m *machine) measureBoot(context.Context) error {
	log, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	if errors.Is(err, os.ErrNotExist) {
		log = nil // CheckBoot refuses it
	} else if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	tpm, err := m.board.OpenTPM()
	if err != nil {
		return err
	}
	if err := measure.CheckBoot(log, tpm.ReadPCR); err != nil {
		return errors.Join(err, tpm.Close())
	}
	if m.measured, err = measure.NewLog(tpm, phoneLog); err != nil {
		return errors.Join(err, tpm.Close())
	}
	blob, err := os.ReadFile("/sys/firmware/fdt")
	if err != nil {
		return fmt.Errorf("read device tree: %w", err)
	}
	return m.measured.DeviceTree(blob)
}

// radiosOff measures what was found before it is turned off: a phone that has
// a radio cannot prove itself, and says why.
func (m *machine) radiosOff(context.Context) error {
	block, err := m.board.OpenRadioBlock()
	switch {
	case err == nil:
		m.blocker = block // stays open: it blocks radios to come, too
	case !errors.Is(err, hal.ErrAbsent):
		return err
	}
	found, err := radio.Look("/")
	if err != nil {
		return err
	}
	if err := m.measured.Radio(found); err != nil {
		return err
	}
	m.clean = found
	m.hub.setRadios(found.Found)
	if len(found.Found) > 0 {
		m.foundRadio(found, radio.TurnOff("/", m.blocker))
	}
	return nil
}

func (m *machine) watchRadios(context.Context) error {
	m.work.Go(func() {
		err := radio.Watch(m.ctx, radio.WatchConfig{Root: "/", Blocker: m.blocker, Every: 10 * time.Second, Known: m.clean,
			Found: func(f evidence.RadioFinding, err error) {
				if err := m.measured.Radio(f); err != nil {
					m.log.Error("radio not measured", "error", err)
				}
				m.hub.setRadios(f.Found)
				m.foundRadio(f, err)
			}})
		m.log.Error("radios unwatched", "error", err)
		halt() // the watch never ends by itself; a phone that cannot watch must not go on
	})
	return nil
}

func (m *machine) foundRadio(f evidence.RadioFinding, off error) {
	m.log.Warn("radio found", "found", strings.Join(f.Found, ","), "turned_off", off == nil, "error", off)
	m.event(report.RadioFound, strings.Join(f.Found, ","))
}

// stage notes that a boot stage was reached, once; more is for the log.
func (m *machine) stage(name string, more ...any) {
	if when, first := m.hub.reached(name, bootClock()); first {
		m.log.Info("stage", append([]any{"name", name, "at", at(when)}, more...)...)
	}
}

// ended is told by the supervisor of each end of a role.
func (m *machine) ended(role string, _ int, status string) {
	if role == roleMedia && m.gate != nil {
		m.gate.mediaDied()
	}
	if role == roleCall {
		m.callerDied()
	}
	if status != "signal killed" {
		m.event("role.ended", role+" "+status)
	}
}

// showHalt says on console and screen why the phone goes no further.
func (m *machine) showHalt(e *boot.HaltError) {
	if m.sup == nil {
		return
	}
	r, err := m.role(roleUI)
	if err != nil {
		m.log.Error("screen", "error", err)
		return
	}
	if err := m.giveNodes(); err != nil {
		m.log.Error("screen", "error", err)
	}
	r.Args = []string{"halted", e.Step, e.Err.Error()}
	m.run(r)
}

// feed waits for ever.
func (m *machine) feed() { select {} }

// halt stops the phone where it is: the watchdog, if armed, restarts it.
func halt() { select {} }

// start runs a role of the table for as long as the phone is on.
func (m *machine) start(name string) error {
	r, err := m.role(name)
	if err != nil {
		return err
	}
	if _, again := m.started.LoadOrStore(name, struct{}{}); again {
		return nil
	}
	m.run(r)
	return nil
}

func (m *machine) run(r supervise.Role) {
	m.work.Go(func() {
		if err := m.sup.Run(m.ctx, r); err != nil {
			m.log.Error("role not started", "role", r.Name, "error", err)
		}
	})
}

func (m *machine) role(name string) (supervise.Role, error) {
	if err := m.hub.open(m); err != nil {
		return supervise.Role{}, err
	}
	for _, r := range m.hub.roles {
		if r.Name == name {
			return r, nil
		}
	}
	return supervise.Role{}, fmt.Errorf("start %s: %w", name, supervise.ErrUnknownRole)
}

func (m *machine) startRoles(context.Context) error {
	if err := m.giveNodes(); err != nil {
		return err
	}
	// The logs that explain the quoted registers: the agent shows them.
	for _, p := range []string{"/sys/kernel/security/tpm0/binary_bios_measurements", "/sys/kernel/security/ima/binary_runtime_measurements"} {
		if err := os.Chown(p, 0, uidAgent); err != nil {
			return fmt.Errorf("give %s to agent: %w", p, err)
		}
	}
	for _, name := range append([]string{roleAgent, roleUI, roleMedia}, labRoleNames()...) {
		if err := m.start(name); err != nil {
			return err
		}
	}
	return nil
}

// giveNodes gives each role's user the device files of its role.
func (m *machine) giveNodes() error {
	nodes, err := m.board.Nodes()
	if err != nil {
		return err
	}
	users := map[string]int{}
	for _, r := range m.hub.roles {
		users[r.Name] = r.UID
	}
	for role, paths := range nodes {
		for _, p := range paths {
			if err := os.Chown(p, users[role], users[role]); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("give %s to %s: %w", p, role, err)
			}
		}
	}
	return nil
}
