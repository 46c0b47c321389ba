// Package wire is the contract between the phone and its provisioning
// service: the management stream's frames and, in its sub-packages, what they
// carry. It is not a transport: both halves bring their own TLS connection.
//
// The management stream is one TLS 1.3 connection with mutual authentication
// by the management LDevID and the ALPN protocol [ALPN]. Each frame is a
// 32-bit big-endian length followed by that many bytes of one JSON [Message].
//
// History of [Protocol]:
//
//	1  hello, challenge, evidence, config, result, report, ping, bye, update, progress
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"ringfence/provisioning/wire/evidence"
	"ringfence/provisioning/wire/report"
)

// Protocol is the version of the management stream that this code speaks.
const Protocol = 1

// ALPN is the TLS application protocol (RFC 7301) of the management stream.
// EST requests use "http/1.1" on the same port.
const ALPN = "ringfence/1"

// MaxFrame bounds a frame's JSON, in bytes.
const MaxFrame = 512 << 10

// Message is one frame of the management stream; exactly one field is set.
type Message struct {
	Hello     *Hello             `json:"hello,omitempty"`     // phone, first
	Challenge *Challenge         `json:"challenge,omitempty"` // server, after hello and then whenever it wants fresh proof
	Evidence  *evidence.Evidence `json:"evidence,omitempty"`  // phone, the answer to a challenge
	Config    *Config            `json:"config,omitempty"`    // server
	Result    *Result            `json:"result,omitempty"`    // phone, the fate of a configuration
	Report    *report.Report     `json:"report,omitempty"`    // phone
	Ping      *Ping              `json:"ping,omitempty"`      // either side; answered by the same with Answer set
	Bye       *Bye               `json:"bye,omitempty"`       // server, before it closes
	Update    *Update            `json:"update,omitempty"`    // server: a release this phone shall move to
	Progress  *Progress          `json:"progress,omitempty"`  // phone: what became of an update
}

// Hello opens the stream.
type Hello struct {
	Protocol      int    `json:"protocol"`       // wire.Protocol of the phone
	Schema        int    `json:"schema"`         // newest lock.Schema the phone reads
	Release       string `json:"release"`        // release of the running image
	BootID        string `json:"boot_id"`        // random, one per boot
	ConfigVersion uint64 `json:"config_version"` // version in force, 0 when none
}

// Challenge asks for a quote over Nonce (32 bytes) bound to this connection.
type Challenge struct {
	Nonce []byte `json:"nonce"`
}

// Config carries one sealed configuration (lock.Sealed, opaque here).
type Config struct {
	Version uint64 `json:"version"` // a hint; the truth is inside the seal
	Sealed  []byte `json:"sealed"`
}

// Result tells the server what became of a configuration.
type Result struct {
	Version uint64 `json:"version"`
	OK      bool   `json:"ok"`
	Cause   string `json:"cause,omitempty"` // "seal", "signature", "version", "schema", "recipient", "apply"
	Error   string `json:"error,omitempty"`
}

// Ping keeps the connection alive and measures it.
type Ping struct {
	Answer bool `json:"answer,omitempty"`
}

// Bye says why the server is about to close the stream.
type Bye struct {
	Reason string `json:"reason"`
}

// Update names the release that this phone shall run. It carries no trust:
// the phone verifies the target itself (threshold, log proof, model, sequence).
type Update struct {
	Release string `json:"release"` // major.minor.patch
	Target  string `json:"target"`  // path of the image in the update repository
}

// Progress tells the server how far an update is.
type Progress struct {
	Release string `json:"release"`
	Phase   Phase  `json:"phase"`
	Cause   string `json:"cause,omitempty"` // with PhaseRefused and PhaseReverted: one word
	Error   string `json:"error,omitempty"` // one line for people
}

// Phase is a step of an update on the phone.
type Phase string

// The way of an update; refused and reverted end it.
const (
	PhaseDeferred    Phase = "deferred" // a call is up
	PhaseDownloading Phase = "downloading"
	PhaseWritten     Phase = "written" // verified and in the idle slot
	PhaseRebooting   Phase = "rebooting"
	PhaseCommitted   Phase = "committed" // healthy: booted, connected, registered
	PhaseReverted    Phase = "reverted"
	PhaseRefused     Phase = "refused"
)

// AppendFrame appends the frame of m to dst, ready for one write.
func AppendFrame(dst []byte, m *Message) ([]byte, error) {
	if err := m.validate(); err != nil {
		return dst, err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return dst, fmt.Errorf("encode frame: %w", err)
	}
	if len(body) > MaxFrame {
		return dst, fmt.Errorf("encode frame of %d bytes: %w", len(body), ErrTooLarge)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	return append(dst, body...), nil
}

// ReadFrame reads one frame. It allocates only after the length was checked.
func ReadFrame(r io.Reader) (*Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("read frame of %d bytes: %w", n, ErrTooLarge)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read frame body: %w", err)
	}
	m := new(Message)
	if err := DecodeStrict(body, MaxFrame, m); err != nil {
		return nil, fmt.Errorf("decode frame: %w", err)
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Message) validate() error {
	n := 0
	for _, set := range []bool{m.Hello != nil, m.Challenge != nil, m.Evidence != nil, m.Config != nil,
		m.Result != nil, m.Report != nil, m.Ping != nil, m.Bye != nil, m.Update != nil, m.Progress != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("frame carries %d messages, want exactly 1", n)
	}
	return nil
}
