package network

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ringfence/provisioning/wire/report"
)

// Sockets returns every internet and packet socket of the kernel, as the
// files under root ("/proc/net" on the phone) list them (proc(5)). UNIX
// sockets are not listed: they do not leave the phone.
func Sockets(root string) ([]report.Socket, error) {
	all := []report.Socket{}
	for _, file := range []string{"tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "icmp", "packet"} {
		f, err := os.Open(filepath.Join(root, file))
		if errors.Is(err, os.ErrNotExist) {
			continue // the kernel does not have the protocol
		}
		if err != nil {
			return nil, fmt.Errorf("read socket table: %w", err)
		}
		rows, err := readTable(f, file)
		_ = f.Close() // only read
		if err != nil {
			return nil, fmt.Errorf("read socket table %s: %w", file, err)
		}
		all = append(all, rows...)
	}
	return all, nil
}

func readTable(f *os.File, proto string) ([]report.Socket, error) {
	var rows []report.Socket
	s := bufio.NewScanner(f)
	s.Scan() // headings
	for s.Scan() {
		parse := parseInet
		if proto == "packet" {
			parse = parsePacket
		}
		row, err := parse(strings.Fields(s.Text()))
		if err != nil {
			return nil, err
		}
		row.Proto = proto
		rows = append(rows, row)
	}
	return rows, s.Err()
}

// tcpStates are the states of include/net/tcp_states.h.
func tcpState(code string) string {
	n, err := strconv.ParseUint(code, 16, 8)
	names := []string{"", "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait", "close", "close-wait", "last-ack", "listen", "closing", "new-syn-recv"}
	if err != nil || n == 0 || int(n) >= len(names) {
		return code
	}
	return names[n]
}

// parseInet reads: sl local_address rem_address st tx:rx tr:when retr uid ...
func parseInet(f []string) (report.Socket, error) {
	if len(f) < 8 {
		return report.Socket{}, fmt.Errorf("row of %d columns", len(f))
	}
	local, err1 := parseAddress(f[1])
	remote, err2 := parseAddress(f[2])
	uid, err3 := strconv.Atoi(f[7])
	if err := errors.Join(err1, err2, err3); err != nil {
		return report.Socket{}, err
	}
	return report.Socket{Local: local, Remote: remote, State: tcpState(f[3]), UID: uid}, nil
}

// parsePacket reads: sk RefCnt Type Proto Iface R Rmem User Inode.
func parsePacket(f []string) (report.Socket, error) {
	if len(f) < 9 {
		return report.Socket{}, fmt.Errorf("row of %d columns", len(f))
	}
	uid, err := strconv.Atoi(f[7])
	return report.Socket{Local: "ethertype " + f[3] + " interface " + f[4], State: "type " + f[2], UID: uid}, err
}

// parseAddress reads address:port, the address as host-order 32-bit words in hexadecimal.
func parseAddress(s string) (string, error) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(raw)%4 != 0 {
		return "", fmt.Errorf("address %q", s)
	}
	for i := 0; i+3 < len(raw); i += 4 { // both supported architectures are little-endian
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		return "", fmt.Errorf("address %q", s)
	}
	return netip.AddrPortFrom(a, uint16(p)).String(), nil
}
