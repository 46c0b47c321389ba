package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Addresses and names of the lab. The server side of the segment is a TAP
// device; phones get their address from DHCP.
const (
	Tap           = "tap0"
	ServerAddress = "10.77.0.1"
	Domain        = "ringfence.test"
	ProvName      = "prov." + Domain
	SIPName       = "sip." + Domain
	ProvURL       = "https://" + ProvName + ":8443"
	AdminAddress  = "127.0.0.1:8444"
	SIPAddress    = ServerAddress + ":5061"
	RPCAddress    = "127.0.0.1:18080"
)

// InNamespace reports whether this process is in a user namespace of its own,
// where it may set up interfaces without touching the machine's.
func InNamespace() bool {
	raw, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	var inside, outside, length uint64
	_, err = fmt.Sscan(string(raw), &inside, &outside, &length)
	return err == nil && length == 1
}

// setupInterfaces brings loopback up and gives the TAP device its address.
func setupInterfaces(ctx context.Context) error {
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "addr", "replace", ServerAddress + "/24", "dev", Tap},
		{"ip", "link", "set", Tap, "up"},
	} {
		if _, err := Run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// startDNSMasq serves DHCP and DNS on the TAP device. Option 143 is the
// bootstrap server list of RFC 8572 section 8.1: a two-byte length before
// each URI.
func startDNSMasq(ctx context.Context, dir string) (*Process, error) {
	option := binary.BigEndian.AppendUint16(nil, uint16(len(ProvURL)))
	option = append(option, ProvURL...)
	hex := ""
	for i, b := range option {
		if i > 0 {
			hex += ":"
		}
		hex += fmt.Sprintf("%02x", b)
	}
	p, err := Start(dir, Command{Name: "dnsmasq", Args: []string{
		"/usr/sbin/dnsmasq", "--no-daemon", "--log-dhcp", "--conf-file=/dev/null",
		"--interface=" + Tap, "--bind-interfaces", "--except-interface=lo",
		"--no-resolv", "--no-hosts", "--dhcp-authoritative", "--no-ping",
		"--dhcp-range=10.77.0.50,10.77.0.199,255.255.255.0,1h", "--dhcp-option=option:router",
		"--dhcp-option=option:dns-server," + ServerAddress, "--dhcp-option=143," + hex,
		"--address=/" + ProvName + "/" + ServerAddress, "--address=/" + SIPName + "/" + ServerAddress,
		"--dhcp-leasefile=" + filepath.Join(dir, "leases"),
	}})
	if err != nil {
		return nil, err
	}
	return p, p.WaitLog(ctx, "DHCP")
}

func dialable(ctx context.Context, address string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}
