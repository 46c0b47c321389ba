package network

import (
	"net/netip"
	"slices"

	"ringfence/provisioning/wire/report"
)

// Expected is what the kernel's socket table may hold: what the packet filter
// lets through, and the DHCP client of user Net.
type Expected struct {
	Resolvers             []netip.Addr
	AgentPorts, CallPorts []uint16
	RTPMin, RTPMax        uint16
	Net                   int // user ids
	Agent, Call, Media    int
	InCall                bool // without a call no RTP socket is open
}

// Unexpected returns the sockets that must not be there: every listener, and
// every socket that is neither DHCP, name look-up, an outbound connection of
// its role, nor RTP of a call.
func (e *Expected) Unexpected(table []report.Socket) []report.Socket {
	var found []report.Socket
	for _, s := range table {
		if !e.allows(s) {
			found = append(found, s)
		}
	}
	return found
}

func (e *Expected) allows(s report.Socket) bool {
	if s.Proto == "packet" {
		return s.UID == e.Net
	}
	local, err1 := netip.ParseAddrPort(s.Local)
	remote, err2 := netip.ParseAddrPort(s.Remote)
	if err1 != nil || err2 != nil {
		return false
	}
	lookUp := remote.Port() == 53 && slices.Contains(e.Resolvers, remote.Addr()) && (s.UID == e.Agent || s.UID == e.Call)
	switch s.Proto {
	case "tcp":
		return lookUp || e.allowsTCP(s, remote.Port())
	case "udp":
		rtp := e.InCall && s.UID == e.Media && e.RTPMin != 0 && local.Port() >= e.RTPMin && local.Port() <= e.RTPMax
		return lookUp || rtp
	}
	return false
}

// leaving are the states of connections that nobody holds any more: the kernel
// shows them as user 0.
func leaving(state string) bool {
	return slices.Contains([]string{"fin-wait-1", "fin-wait-2", "time-wait", "last-ack", "closing", "close"}, state)
}

func (e *Expected) allowsTCP(s report.Socket, port uint16) bool {
	agent, call := slices.Contains(e.AgentPorts, port), slices.Contains(e.CallPorts, port)
	switch s.State {
	case "listen", "syn-recv", "new-syn-recv":
		return false
	case "established", "syn-sent", "close-wait":
		return agent && s.UID == e.Agent || call && s.UID == e.Call
	}
	return leaving(s.State) && (agent || call) && slices.Contains([]int{0, e.Agent, e.Call}, s.UID)
}
