// Package factory is the talk between the factory station and a blank phone on
// its serial line: lines of text, each one message. The phone creates its keys
// inside its TPM; the station checks the endorsement key, has the phone prove
// that the attestation key lives beside it (TPM2_MakeCredential and
// TPM2_ActivateCredential) and installs the IDevID. It opens no device.
//
// A line is "RF1 " + base64(JSON) + " " + CRC-32 (IEEE, 8 hex digits) of the
// JSON + "\n". Lines that are not of this form (a console message that strays
// in) are passed over. The station speaks first; every request has one answer.
package factory

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/evidence"
)

// Message is one line; exactly one field is set.
type Message struct {
	Identify  *Identify  `json:"identify,omitempty"`
	Identity  *Identity  `json:"identity,omitempty"`
	Activate  *Activate  `json:"activate,omitempty"`
	Activated *Activated `json:"activated,omitempty"`
	Install   *Install   `json:"install,omitempty"`
	Installed *Installed `json:"installed,omitempty"`
	Refused   *Refused   `json:"refused,omitempty"` // either side: ends the exchange
}

// Identify asks the phone to create (or show again) its keys.
type Identify struct {
	Nonce []byte `json:"nonce"` // 32 bytes, qualifyingData of Identity.Key
}

// Identity answers Identify.
type Identity struct {
	Model    device.Model          `json:"model"`
	Release  string                `json:"release"`
	EKCerts  [][]byte              `json:"ek_certs"`  // DER, from TPM NV (TCG EK Credential Profile 2.5)
	EKPublic []byte                `json:"ek_public"` // TPMT_PUBLIC, RSA-2048 template L-1
	AK       []byte                `json:"ak"`        // TPMT_PUBLIC, restricted signing key
	Key      evidence.CertifiedKey `json:"key"`       // the IDevID key, certified by AK over Nonce; Use "idevid"
	EventLog []byte                `json:"event_log"` // binary_bios_measurements of this boot
	PhoneLog []evidence.Entry      `json:"phone_log"`
}

// UseIDevID is the Use of the IDevID key in Identity.
const UseIDevID = "idevid"

// Activate is TPM2_MakeCredential's output: only a TPM that holds both the EK
// and an object with the AK's name can recover the secret.
type Activate struct {
	Blob   []byte `json:"blob"`   // TPM2B_ID_OBJECT contents
	Secret []byte `json:"secret"` // TPM2B_ENCRYPTED_SECRET contents
}

// Activated returns the recovered secret.
type Activated struct {
	Secret []byte `json:"secret"`
}

// Install gives the phone its name and certificate.
type Install struct {
	Device  device.ID `json:"device"`
	IDevID  [][]byte  `json:"idevid"`  // DER chain, leaf first, without the root
	Anchors [][]byte  `json:"anchors"` // DER, manufacturer CA certificates that sign vouchers
}

// Installed says that everything is on stable storage; the phone then restarts
// by itself or is powered off by the station.
type Installed struct{}

// Refused ends the exchange with a reason for the person at the station.
type Refused struct {
	Reason string `json:"reason"`
}

// MaxLine bounds a line, in bytes.
const MaxLine = 256 << 10

const prefix = "RF1 "

// Write sends m as one line.
func Write(w io.Writer, m *Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode factory message: %w", err)
	}
	line := fmt.Sprintf("%s%s %08x\n", prefix, base64.StdEncoding.EncodeToString(body), crc32.ChecksumIEEE(body))
	if len(line) > MaxLine {
		return fmt.Errorf("factory message of %d bytes: %w", len(line), wire.ErrTooLarge)
	}
	_, err = io.WriteString(w, line)
	return err
}

// Read returns the next message. A line that carries the prefix but is damaged
// is an error, so that the sender can be asked again.
func Read(r *bufio.Reader) (*Message, error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		body, ok := strings.CutPrefix(line, prefix)
		if !ok {
			continue
		}
		return parse(body)
	}
}

func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxLine {
			return "", fmt.Errorf("factory line: %w", wire.ErrTooLarge)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return strings.TrimRight(string(line), "\r\n"), err
	}
}

func parse(body string) (*Message, error) {
	text, sum, ok := strings.Cut(body, " ")
	if !ok {
		return nil, errors.New("factory line without a checksum: check the serial line")
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("factory line: %w", err)
	}
	if want := fmt.Sprintf("%08x", crc32.ChecksumIEEE(raw)); sum != want {
		return nil, fmt.Errorf("factory line with checksum %s, want %s: check the serial line", sum, want)
	}
	m := new(Message)
	if err := wire.DecodeStrict(raw, MaxLine, m); err != nil {
		return nil, fmt.Errorf("decode factory message: %w", err)
	}
	return m, nil
}
