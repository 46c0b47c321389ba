//go:build lab

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/boards"
	"ringfence/firmware/network"
	"ringfence/firmware/supervise"
	"ringfence/hal/tpm"
)

// The lab role obeys commands on the factory line of a phone that is enrolled:
// one command a line, one line of JSON as answer. It exists in test images
// only; a product binary has none of it.
const roleLab = "lab"

func labRoles() map[string]role { return map[string]role{roleLab: runLab} }
func labRoleNames() []string    { return []string{roleLab} }
func labUsers() []int           { return []int{uidInit} }

func labTable() []supervise.Role {
	return []supervise.Role{{Name: roleLab, UID: 0, Dir: "/", MaxFiles: 256, MaxProcs: 4096, MaxFileSize: 1 << 20}}
}

type labAnswer struct {
	OK     bool   `json:"ok"`
	Error  string `json:"error,omitempty"`
	Result any    `json:"result,omitempty"`
}

// labRole keeps what must stay open.
type labRole struct {
	board boards.Board
	kept  []io.Closer
}

func runLab(ctx context.Context, _ []string) error {
	board, _, err := thisBoard()
	if err != nil {
		return err
	}
	for { // the line belongs to the factory station until there is an identity
		if _, err := os.Stat(filepath.Join(stateDir, "factory.json")); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
	line, err := board.OpenFactoryLine()
	if err != nil {
		return err
	}
	defer line.Close()
	newLog(os.Stderr, roleLab).Info("ready")
	r := &labRole{board: board}
	in := bufio.NewScanner(line)
	for in.Scan() {
		if strings.HasPrefix(in.Text(), "RF1 ") || strings.TrimSpace(in.Text()) == "" {
			continue // the tail of the factory's talk
		}
		a := labAnswer{OK: true}
		if a.Result, err = r.obey(ctx, strings.Fields(in.Text())); err != nil {
			a = labAnswer{Error: err.Error()}
		}
		if err := json.NewEncoder(line).Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

func (r *labRole) obey(ctx context.Context, words []string) (any, error) {
	argument := ""
	if len(words) > 1 {
		argument = words[1]
	}
	switch words[0] {
	case "sockets":
		return network.Sockets("/proc/net")
	case "fds":
		return holders("/dev/snd/pcmC0D0c")
	case "nofilter":
		return nil, network.RemoveFilter()
	case "plant":
		l, err := net.Listen("tcp4", "0.0.0.0:"+argument)
		if err != nil {
			return nil, err
		}
		r.kept = append(r.kept, l)
		return l.Addr().String(), nil
	case "vhci":
		return nil, r.keepOpen("/dev/vhci", []byte{0xff, 0}) // create a primary controller
	case "interfaces":
		return attributes("/sys/class/net/*/flags")
	case "rfkill":
		return attributes("/sys/class/rfkill/*/soft")
	case "pcr":
		return r.pcrs()
	case "boot":
		return nil, fmt.Errorf("boot %q: slots are chosen by UEFI variables, which are read-only here", argument)
	case "dial":
		return nil, askCall(verbDial, dialMessage{argument})
	case "hangup":
		return nil, askCall(verbHangup, nil)
	case "poweroff":
		unix.Sync()
		return nil, unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	return nil, fmt.Errorf("unknown command %q", words[0])
}

func (r *labRole) keepOpen(path string, first []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write(first); err != nil {
		return errors.Join(err, f.Close())
	}
	r.kept = append(r.kept, f)
	return nil
}

// attributes reads one sysfs attribute of every device that the pattern names.
func attributes(pattern string) (any, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		values[filepath.Base(filepath.Dir(p))] = strings.TrimSpace(string(text))
	}
	return values, nil
}

// holders names every process that has the file open.
func holders(path string) (any, error) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil, err
	}
	found := []string{}
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && target == path {
			process := strings.Split(l, "/")[2]
			cmdline, _ := os.ReadFile("/proc/" + process + "/cmdline") // gone: the number is enough
			role, _, _ := strings.Cut(string(cmdline), "\x00")
			found = append(found, process+" "+role)
		}
	}
	return found, nil
}

func (r *labRole) pcrs() (any, error) {
	dev, err := tpm.Open(tpm.Path)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	values := map[int]string{}
	for i := range 16 {
		v, err := dev.ReadPCR(i)
		if err != nil {
			return nil, err
		}
		values[i] = hex.EncodeToString(v[:])
	}
	return values, nil
}
