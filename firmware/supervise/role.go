// Package supervise starts the phone's roles, each as its own user with only
// what its row of the table says, and starts them again when they end. It is
// not a general init: services, dependencies and run levels do not exist here.
//
// Sources: capabilities(7) (ambient set), prctl(2) (no_new_privs), setrlimit(2).
package supervise

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Role is one row of the table.
type Role struct {
	Name string // argv[0] of the process
	UID  int    // user and group, never 0 outside test images
	// Caps are the ambient capabilities, CAP_* numbers; nil for none.
	Caps []uintptr
	// Dir is the working directory.
	Dir string
	// MaxFiles and MaxProcs are RLIMIT_NOFILE and RLIMIT_NPROC (threads count).
	MaxFiles, MaxProcs uint64
	// MaxFileSize is RLIMIT_FSIZE in bytes; 0 forbids writing files at all.
	MaxFileSize uint64
	// Files are passed as descriptors 3 and up. The supervisor keeps its own.
	Files []*os.File
	// Args follow argv[0].
	Args []string
	// Once says that the role is not started again when it ends by itself.
	Once bool
}

// Validate names what is missing.
func (r *Role) Validate() error {
	switch {
	case r.Name == "" || strings.ContainsAny(r.Name, "/ "):
		return fmt.Errorf("role name %q", r.Name)
	case r.UID < 0:
		return fmt.Errorf("role %s: user %d", r.Name, r.UID)
	case r.Dir == "":
		return fmt.Errorf("role %s: no working directory", r.Name)
	case r.MaxFiles < 8 || r.MaxProcs < 8:
		return fmt.Errorf("role %s: limits of %d files and %d threads, want at least 8", r.Name, r.MaxFiles, r.MaxProcs)
	}
	return nil
}

// Back-off between restarts: doubled from the first to the last while a role
// ends within settle of its start.
const (
	firstDelay = 200 * time.Millisecond
	lastDelay  = 10 * time.Second
	settle     = 30 * time.Second
)

// next returns the delay before the next start of a role that ran for ran and
// waited delay before.
func next(delay, ran time.Duration) time.Duration {
	if ran >= settle || delay == 0 {
		return firstDelay
	}
	return min(2*delay, lastDelay)
}

// ErrUnknownRole reports a name that is not in the table.
var ErrUnknownRole = errors.New("no such role")
