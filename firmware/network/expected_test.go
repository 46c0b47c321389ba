package network

import (
	"net/netip"
	"testing"

	"ringfence/provisioning/wire/report"
)

func TestUnexpected(t *testing.T) {
	idle := Expected{Resolvers: []netip.Addr{netip.MustParseAddr("10.77.0.1")}, AgentPorts: []uint16{8443}, CallPorts: []uint16{5061},
		RTPMin: 20000, RTPMax: 20099, Net: 101, Agent: 102, Call: 104, Media: 105}
	calling := idle
	calling.InCall = true
	const here, any = "10.77.0.20:40000", "0.0.0.0:0"
	for _, c := range []struct {
		name string
		e    Expected
		s    report.Socket
		ok   bool
	}{
		{"provisioning", idle, report.Socket{Proto: "tcp", Local: here, Remote: "10.77.0.1:8443", State: "established", UID: 102}, true},
		{"call server", idle, report.Socket{Proto: "tcp", Local: here, Remote: "10.77.0.1:5061", State: "established", UID: 104}, true},
		{"call server, by the agent", idle, report.Socket{Proto: "tcp", Local: here, Remote: "10.77.0.1:5061", State: "established", UID: 102}, false},
		{"another port", idle, report.Socket{Proto: "tcp", Local: here, Remote: "10.77.0.1:22", State: "established", UID: 102}, false},
		{"orphan", idle, report.Socket{Proto: "tcp", Local: here, Remote: "10.77.0.1:8443", State: "time-wait", UID: 0}, true},
		{"orphan of another port", idle, report.Socket{Proto: "tcp", Local: here, Remote: "10.77.0.1:22", State: "time-wait", UID: 0}, false},
		{"root's connection", idle, report.Socket{Proto: "tcp", Local: here, Remote: "10.77.0.1:8443", State: "established", UID: 0}, false},
		{"listener", idle, report.Socket{Proto: "tcp", Local: "0.0.0.0:8080", Remote: any, State: "listen", UID: 102}, false},
		{"listener on a good port", idle, report.Socket{Proto: "tcp", Local: "0.0.0.0:8443", Remote: "10.77.0.1:8443", State: "listen", UID: 102}, false},
		{"incoming", idle, report.Socket{Proto: "tcp", Local: here, Remote: "10.77.0.1:8443", State: "syn-recv", UID: 102}, false},
		{"name look-up", idle, report.Socket{Proto: "udp", Local: here, Remote: "10.77.0.1:53", State: "established", UID: 104}, true},
		{"look-up elsewhere", idle, report.Socket{Proto: "udp", Local: here, Remote: "10.77.0.9:53", State: "established", UID: 104}, false},
		{"look-up by ui", idle, report.Socket{Proto: "udp", Local: here, Remote: "10.77.0.1:53", State: "established", UID: 103}, false},
		{"RTP in a call", calling, report.Socket{Proto: "udp", Local: "0.0.0.0:20000", Remote: any, State: "close", UID: 105}, true},
		{"RTP after the call", idle, report.Socket{Proto: "udp", Local: "0.0.0.0:20000", Remote: any, State: "close", UID: 105}, false},
		{"RTP below its range", calling, report.Socket{Proto: "udp", Local: "0.0.0.0:19999", Remote: any, State: "close", UID: 105}, false},
		{"RTP of another role", calling, report.Socket{Proto: "udp", Local: "0.0.0.0:20000", Remote: any, State: "close", UID: 104}, false},
		{"DHCP", idle, report.Socket{Proto: "packet", Local: "ethertype 0800 interface 2", State: "type 3", UID: 101}, true},
		{"sniffer", idle, report.Socket{Proto: "packet", Local: "ethertype 0003 interface 0", State: "type 3", UID: 0}, false},
		{"raw", idle, report.Socket{Proto: "raw", Local: "0.0.0.0:1", Remote: any, State: "close", UID: 101}, false},
		{"IPv6", idle, report.Socket{Proto: "tcp6", Local: "[::]:22", Remote: "[::]:0", State: "listen", UID: 0}, false},
	} {
		if found := c.e.Unexpected([]report.Socket{c.s}); (len(found) == 0) != c.ok {
			t.Errorf("%s: Unexpected = %v, want allowed %t", c.name, found, c.ok)
		}
	}
}
