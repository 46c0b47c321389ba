// Package report is what a phone tells its provisioning service about itself:
// audit events, call records and status. It stores nothing.
package report

import "time"

// Report is one message; any list may be empty.
type Report struct {
	Events []Event `json:"events,omitempty"`
	Calls  []Call  `json:"calls,omitempty"`
	Status *Status `json:"status,omitempty"`
}

// RadioFound is the name of the event that the service answers with a
// challenge at once: the phone has measured the radio before it says so.
const RadioFound = "radio.found"

// Event is one audit event of the phone.
type Event struct {
	Time   time.Time `json:"time"`
	Role   string    `json:"role"`   // the process that saw it
	Name   string    `json:"name"`   // e.g. "config.refused", "radio.found", "mic.open"
	Detail string    `json:"detail"` // one line, at most 512 bytes
}

// Call is one finished call as the phone saw it (R67).
type Call struct {
	CallID    string    `json:"call_id"`
	Peer      string    `json:"peer"` // address-of-record
	Outgoing  bool      `json:"outgoing"`
	Start     time.Time `json:"start"`
	Answered  time.Time `json:"answered,omitzero"`
	End       time.Time `json:"end"`
	Reason    string    `json:"reason"` // "hangup", "peer hangup", "busy", "no answer", "refused", "media lost"
	Codec     string    `json:"codec,omitempty"`
	Suite     string    `json:"suite,omitempty"`
	Sent      uint64    `json:"sent"`      // RTP packets
	Received  uint64    `json:"received"`  // RTP packets after authentication
	Lost      uint64    `json:"lost"`      // never arrived
	AuthFail  uint64    `json:"auth_fail"` // packets that failed authentication or replay check
	Concealed uint64    `json:"concealed"` // frames that were concealed
	JitterMS  float64   `json:"jitter_ms"` // RFC 3550 interarrival jitter
	RoundTrip float64   `json:"rtt_ms"`    // from RTCP, 0 when unknown
	Xruns     uint64    `json:"xruns"`     // of the codec
}

// Status is what the phone is doing now.
type Status struct {
	Uptime     float64  `json:"uptime"`     // seconds since power-on
	Registered bool     `json:"registered"` // at the call server
	InCall     bool     `json:"in_call"`
	Sockets    []Socket `json:"sockets"` // the kernel's whole inet socket table
	Radios     []string `json:"radios"`  // found now; empty = none
	Stages     []Stage  `json:"stages"`  // boot stages
}

// Socket is one row of the kernel's socket table.
type Socket struct {
	Proto  string `json:"proto"` // "tcp", "udp", "raw", "packet"
	Local  string `json:"local"`
	Remote string `json:"remote"`
	State  string `json:"state"` // as in /proc/net/tcp, in words
	UID    int    `json:"uid"`
}

// Stage is one step from power-on to registered.
type Stage struct {
	Name string  `json:"name"` // "init", "measured", "network", "attested", "configured", "registered"
	At   float64 `json:"at"`   // seconds of the kernel's boot clock
}
