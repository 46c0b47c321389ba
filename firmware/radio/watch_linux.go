package radio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/provisioning/wire/evidence"
)

// WatchConfig of [Watch]; all fields but Blocker are required.
type WatchConfig struct {
	Root    string
	Blocker Blocker // nil where the kernel has no rfkill
	Every   time.Duration
	Known   evidence.RadioFinding // what was found at boot
	// Found is told of each finding that has something the one before had not,
	// after the radios were turned off; err is what could not be turned off.
	Found func(f evidence.RadioFinding, err error)
}

// Watch looks again after every kernel event about a radio and every
// interval, until ctx ends. A radio that goes away is no finding; one that
// comes back is.
func Watch(ctx context.Context, cfg WatchConfig) error {
	if cfg.Root == "" || cfg.Every <= 0 || cfg.Found == nil {
		return errors.New("radio: watch without root, interval or receiver")
	}
	events, err := uevents(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(cfg.Every)
	defer tick.Stop()
	known := cfg.Known.Found
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case <-tick.C:
		}
		f, err := Look(cfg.Root)
		if err != nil {
			return err
		}
		// All of it before it is undone: deleting changes what is seen.
		if added(known, f.Found) {
			cfg.Found(f, TurnOff(cfg.Root, cfg.Blocker))
			if f, err = Look(cfg.Root); err != nil {
				return err
			}
		}
		known = f.Found
	}
}

func added(known, now []string) bool {
	return slices.ContainsFunc(now, func(s string) bool { return !slices.Contains(known, s) })
}

// uevents returns a channel that has a value after each kernel event of a
// radio's subsystem (netlink(7), NETLINK_KOBJECT_UEVENT group 1).
func uevents(ctx context.Context) (<-chan struct{}, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open kernel event socket: %w", err)
	}
	// The receive time-out lets the reader notice the end of ctx.
	err = errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}))
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind kernel event socket: %w", err)
	}
	out := make(chan struct{}, 1)
	go func() { // ends with ctx, within a second
		defer unix.Close(fd)
		buf := make([]byte, 8<<10)
		for ctx.Err() == nil {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			kernel, ok := from.(*unix.SockaddrNetlink)
			if err == nil && (!ok || kernel.Pid != 0 || !aboutRadio(buf[:n])) {
				continue
			}
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}
			select { // an overrun (ENOBUFS) asks for a look as well
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, nil
}

func aboutRadio(event []byte) bool {
	for _, field := range bytes.Split(event, []byte{0}) {
		if subsystem, ok := bytes.CutPrefix(field, []byte("SUBSYSTEM=")); ok {
			return slices.Contains([]string{"bluetooth", "ieee80211", "lirc", "net", "nfc", "rc", "rfkill"}, string(subsystem))
		}
	}
	return false
}
