package radio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Blocker blocks every transmitter (hal/rfkill).
type Blocker interface{ BlockAll() error }

// TurnOff blocks every radio, takes down and deletes wireless interfaces and
// unbinds the radios' drivers. It goes through all of it whatever fails and
// returns the joined errors. blocker may be nil only where the kernel has no
// rfkill. A clean system costs nothing and is no error.
func TurnOff(root string, blocker Blocker) error {
	var errs []error
	if blocker != nil {
		errs = append(errs, blocker.BlockAll())
	}
	errs = append(errs, deleteWireless(), takeDownBluetooth(root))
	for _, place := range []string{"ieee80211", "bluetooth", "nfc", "rc", "lirc"} {
		errs = append(errs, unbind(filepath.Join(root, "sys/class", place, "*")))
	}
	return errors.Join(errs...)
}

// From include/uapi/linux/nl80211.h.
const (
	cmdGetInterface = 5
	cmdDelInterface = 8
	attrIfindex     = 3
	attrWdev        = 0x99
)

// deleteWireless deletes every interface of nl80211, P2P devices without a
// network interface included. rtnetlink refuses to delete them.
func deleteWireless() error {
	c, err := genetlink.Dial(nil)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil // a kernel without generic netlink has no nl80211
	}
	if err != nil {
		return fmt.Errorf("dial generic netlink: %w", err)
	}
	defer c.Close()
	family, err := c.GetFamily("nl80211")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find nl80211: %w", err)
	}
	msgs, err := c.Execute(genetlink.Message{Header: genetlink.Header{Command: cmdGetInterface}},
		family.ID, netlink.Request|netlink.Dump)
	if err != nil {
		return fmt.Errorf("list wireless interfaces: %w", err)
	}
	var errs []error
	for _, m := range msgs {
		id, err := interfaceOf(m.Data)
		if err == nil {
			_, err = c.Execute(genetlink.Message{Header: genetlink.Header{Command: cmdDelInterface}, Data: id},
				family.ID, netlink.Request|netlink.Acknowledge)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("delete wireless interface: %w", err))
		}
	}
	return errors.Join(errs...)
}

// interfaceOf returns the attribute that names the interface of a message.
func interfaceOf(data []byte) ([]byte, error) {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return nil, err
	}
	ae := netlink.NewAttributeEncoder()
	found := false
	for ad.Next() {
		switch ad.Type() {
		case attrIfindex:
			ae.Uint32(attrIfindex, ad.Uint32())
			found = true
		case attrWdev:
			ae.Uint64(attrWdev, ad.Uint64())
			found = true
		}
	}
	if err := ad.Err(); err != nil {
		return nil, err
	}
	if !found {
		return nil, errors.New("message names no interface")
	}
	return ae.Encode()
}

// From include/net/bluetooth/hci_sock.h.
const hciDevDown = 0x400448ca // HCIDEVDOWN, _IOW('H', 202, int)

// takeDownBluetooth stops every controller: a blocked one stays powered.
func takeDownBluetooth(root string) error {
	paths, _ := filepath.Glob(filepath.Join(root, "sys/class/bluetooth/hci*")) // the pattern is constant
	if len(paths) == 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_BLUETOOTH, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.BTPROTO_HCI)
	if err != nil {
		return fmt.Errorf("open Bluetooth control socket: %w", err)
	}
	defer unix.Close(fd)
	var errs []error
	for _, p := range paths {
		var index int
		if n, _ := fmt.Sscanf(filepath.Base(p), "hci%d", &index); n != 1 {
			continue // hci0:11 is a connection, gone with its controller
		}
		if err := unix.IoctlSetInt(fd, hciDevDown, index); err != nil {
			errs = append(errs, fmt.Errorf("take down %s: %w", filepath.Base(p), err))
		}
	}
	return errors.Join(errs...)
}

// unbind takes the drivers from the devices behind the class entries that
// match pattern. A device without driver (a virtual one) is left.
func unbind(pattern string) error {
	paths, _ := filepath.Glob(pattern) // the pattern is constant
	var errs []error
	for _, p := range paths {
		device, err := filepath.EvalSymlinks(filepath.Join(p, "device"))
		if err != nil {
			continue
		}
		control := filepath.Join(device, "driver", "unbind")
		if _, err := os.Stat(control); err != nil {
			continue
		}
		if err := os.WriteFile(control, []byte(filepath.Base(device)), 0); err != nil {
			errs = append(errs, fmt.Errorf("unbind %s: %w", filepath.Base(p), err))
		}
	}
	return errors.Join(errs...)
}
