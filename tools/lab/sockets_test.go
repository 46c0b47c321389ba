package lab

import (
	"testing"

	"ringfence/provisioning/wire/report"
)

func TestCheckSockets(t *testing.T) {
	agent := report.Socket{Proto: "tcp", Local: "10.77.0.20:40000", Remote: "10.77.0.1:8443", State: "established", UID: 102}
	call := report.Socket{Proto: "tcp", Local: "10.77.0.20:40001", Remote: "10.77.0.1:5061", State: "established", UID: 104}
	rtp := report.Socket{Proto: "udp", Local: "0.0.0.0:20000", Remote: "0.0.0.0:0", State: "close", UID: 105}
	planted := report.Socket{Proto: "tcp", Local: "0.0.0.0:8080", Remote: "0.0.0.0:0", State: "listen"}
	second := agent
	second.Local = "10.77.0.20:40002"
	for _, c := range []struct {
		name    string
		inCall  bool
		sockets []report.Socket
		ok      bool
	}{
		{"idle", false, []report.Socket{agent, call}, true},
		{"in a call", true, []report.Socket{agent, call, rtp}, true},
		{"RTP stays open", false, []report.Socket{agent, call, rtp}, false},
		{"a listener", false, []report.Socket{agent, call, planted}, false},
		{"two connections of one role", false, []report.Socket{agent, call, second}, false},
	} {
		if err := CheckSockets(&report.Status{InCall: c.inCall, Sockets: c.sockets}); (err == nil) != c.ok {
			t.Errorf("%s: CheckSockets = %v, want good %t", c.name, err, c.ok)
		}
	}
}
