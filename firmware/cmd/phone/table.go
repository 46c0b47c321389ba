package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ringfence/firmware/intercom"
	"ringfence/firmware/supervise"
)

// Names and users of the roles (architecture: processes on the phone).
const (
	roleInit  = "init"
	roleNet   = "net"
	roleAgent = "agent"
	roleUI    = "ui"
	roleCall  = "call"
	roleMedia = "media"

	uidInit  = 0
	uidNet   = 101
	uidAgent = 102
	uidUI    = 103
	uidCall  = 104
	uidMedia = 105
)

// Paths that several roles share.
const (
	runDir      = "/run/ringfence"
	stateDir    = "/state/agent"
	phoneLog    = runDir + "/phonelog.json"
	netDir      = runDir + "/net"
	resolvConf  = netDir + "/resolv.conf"
	cmdlinePath = "/proc/cmdline"
)

// socket is where a role is asked.
func socket(role string) string { return filepath.Join(runDir, role+".sock") }

// listenFD is the role's own listening socket, made by init: it outlives the
// process, so a role that restarts is never refused.
const listenFD = 3

// table is what each role is given. Restarting, limits and users are
// supervise's work.
func table() []supervise.Role {
	return []supervise.Role{
		{Name: roleNet, UID: uidNet, Caps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}, Dir: netDir,
			MaxFiles: 64, MaxProcs: 64, MaxFileSize: 64 << 10},
		{Name: roleAgent, UID: uidAgent, Dir: stateDir, MaxFiles: 128, MaxProcs: 128, MaxFileSize: 256 << 20},
		{Name: roleUI, UID: uidUI, Dir: "/", MaxFiles: 64, MaxProcs: 64},
		{Name: roleCall, UID: uidCall, Dir: "/", MaxFiles: 64, MaxProcs: 64},
		{Name: roleMedia, UID: uidMedia, Dir: "/", MaxFiles: 32, MaxProcs: 64},
	}
}

// withSockets makes each role's listening socket and adds it to its row.
func withSockets(roles []supervise.Role) ([]supervise.Role, error) {
	for i := range roles {
		l, err := intercom.Listen(socket(roles[i].Name))
		if err != nil {
			return nil, err
		}
		f, err := l.File() // a duplicate; the socket stays when l is closed
		if err != nil {
			return nil, fmt.Errorf("socket of %s: %w", roles[i].Name, err)
		}
		l.SetUnlinkOnClose(false)
		if err := l.Close(); err != nil {
			return nil, err
		}
		roles[i].Files = append([]*os.File{f}, roles[i].Files...)
	}
	return roles, nil
}
