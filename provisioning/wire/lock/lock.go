// Package lock is the locked phone configuration: its typed schema, what is
// valid, and the envelope that carries it. A configuration is signed (DSSE) by
// the owner's configuration signer and then sealed (HPKE, RFC 9180) to one
// phone's TPM-held key. It does not store or apply anything.
//
// History of [Schema]:
//
//	1  first version
package lock

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"ringfence/provisioning/wire/device"
)

// Schema is the newest schema version this code reads and writes.
const Schema = 1

// MaxSize bounds the JSON of a configuration, in bytes.
const MaxSize = 64 << 10

// Config is everything a phone's owner decides about it. The zero value is
// not valid.
type Config struct {
	Schema     int        `json:"schema"`
	Device     device.ID  `json:"device"`  // the only phone that may apply it
	Version    uint64     `json:"version"` // strictly growing per device, from 1
	Issued     time.Time  `json:"issued"`
	CallServer CallServer `json:"call_server"`
	Lines      []Line     `json:"lines"` // exactly 1 in schema 1
	Media      Media      `json:"media"`
	Policy     Policy     `json:"policy"`
	Display    Display    `json:"display"`
	Management Management `json:"management"`
}

// CallServer is where the phone registers, always over mutual TLS 1.3.
type CallServer struct {
	Address    string   `json:"address"`     // host:port that is dialled
	ServerName string   `json:"server_name"` // name in its certificate
	Domain     string   `json:"domain"`      // SIP domain of every address-of-record
	CAs        [][]byte `json:"cas"`         // DER, trust anchors of the call server
}

// Line is one address-of-record: sip:User@Domain.
type Line struct {
	User    string `json:"user"`
	Display string `json:"display"`
}

// Media says how calls sound and how they are protected.
type Media struct {
	Codecs  []Codec `json:"codecs"`   // in order of preference
	Suites  []Suite `json:"suites"`   // in order of preference; AES_CM only where policy needs a peer without GCM
	PortMin uint16  `json:"port_min"` // local RTP ports, inclusive
	PortMax uint16  `json:"port_max"`
}

// Codec names an audio codec as in SDP (RFC 3551).
type Codec string

// Codecs of schema 1, all at a fixed rate (R50).
const (
	G722 Codec = "G722"
	PCMU Codec = "PCMU"
	PCMA Codec = "PCMA"
)

// Suite names an SRTP crypto suite as in SDES (RFC 4568, RFC 7714).
type Suite string

// Suites of schema 1. There is no NULL suite and no clear-text fall-back.
const (
	AEADAES256GCM    Suite = "AEAD_AES_256_GCM"
	AESCM128HMACSHA1 Suite = "AES_CM_128_HMAC_SHA1_80"
)

// Policy holds the security decisions; the zero value is the strictest.
type Policy struct {
	Radios           Radios   `json:"radios"`
	EmergencyNumbers []string `json:"emergency_numbers"`
}

// Radios is the radio policy. Schema 1 knows one value.
type Radios string

// RadiosOff forbids every radio: Wi-Fi, Bluetooth, NFC, infrared.
const RadiosOff Radios = "off"

// Display is what the idle screen shows.
type Display struct {
	Label string `json:"label"` // at most 40 characters
}

// Management tells the phone about its provisioning service.
type Management struct {
	ReportSeconds int `json:"report_seconds"` // 5..3600, interval of status reports
}

// Validate names the first field that is wrong.
func (c *Config) Validate() error {
	for _, check := range []func() error{c.checkHead, c.checkCallServer, c.checkLines, c.checkMedia, c.checkRest} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkHead() error {
	if c.Schema != Schema {
		return fmt.Errorf("schema %d, want %d", c.Schema, Schema)
	}
	if _, err := device.ParseID(string(c.Device)); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	if c.Version == 0 {
		return fmt.Errorf("version 0, want 1 or more")
	}
	if c.Issued.IsZero() {
		return fmt.Errorf("issued: missing")
	}
	return nil
}

func (c *Config) checkCallServer() error {
	s := c.CallServer
	if _, _, err := net.SplitHostPort(s.Address); err != nil {
		return fmt.Errorf("call_server.address %q: want host:port", s.Address)
	}
	if !validName(s.ServerName) || !validName(s.Domain) {
		return fmt.Errorf("call_server: server_name %q and domain %q must be host names", s.ServerName, s.Domain)
	}
	if len(s.CAs) == 0 || len(s.CAs) > 4 {
		return fmt.Errorf("call_server.cas: %d certificates, want 1 to 4", len(s.CAs))
	}
	return nil
}

func (c *Config) checkLines() error {
	if len(c.Lines) != 1 {
		return fmt.Errorf("lines: %d, schema 1 has exactly 1", len(c.Lines))
	}
	for i, l := range c.Lines {
		if !validUser(l.User) {
			return fmt.Errorf("lines[%d].user %q: want 1 to 32 of a-z, 0-9, '.', '-', '_', '+'", i, l.User)
		}
		if len(l.Display) > 64 || strings.ContainsAny(l.Display, "\r\n\x00\"") {
			return fmt.Errorf("lines[%d].display: at most 64 bytes, no quotes or line breaks", i)
		}
	}
	return nil
}

func (c *Config) checkMedia() error {
	m := c.Media
	if err := oneOf("media.codecs", m.Codecs, G722, PCMU, PCMA); err != nil {
		return err
	}
	if err := oneOf("media.suites", m.Suites, AEADAES256GCM, AESCM128HMACSHA1); err != nil {
		return err
	}
	if m.PortMin < 1024 || m.PortMin%2 != 0 || m.PortMax < m.PortMin+15 {
		return fmt.Errorf("media ports %d to %d: want an even start from 1024 and at least 16 ports", m.PortMin, m.PortMax)
	}
	return nil
}

func (c *Config) checkRest() error {
	if c.Policy.Radios != RadiosOff {
		return fmt.Errorf("policy.radios %q: schema 1 knows only %q", c.Policy.Radios, RadiosOff)
	}
	if len(c.Policy.EmergencyNumbers) == 0 || len(c.Policy.EmergencyNumbers) > 16 {
		return fmt.Errorf("policy.emergency_numbers: %d, want 1 to 16", len(c.Policy.EmergencyNumbers))
	}
	for _, n := range c.Policy.EmergencyNumbers {
		if n == "" || len(n) > 16 || strings.Trim(n, "0123456789") != "" {
			return fmt.Errorf("policy.emergency_numbers: %q is not a number of up to 16 digits", n)
		}
	}
	if len([]rune(c.Display.Label)) > 40 {
		return fmt.Errorf("display.label: at most 40 characters")
	}
	if c.Management.ReportSeconds < 5 || c.Management.ReportSeconds > 3600 {
		return fmt.Errorf("management.report_seconds %d: want 5 to 3600", c.Management.ReportSeconds)
	}
	return nil
}

func oneOf[T ~string](field string, got []T, known ...T) error {
	if len(got) == 0 {
		return fmt.Errorf("%s: empty", field)
	}
	for i, v := range got {
		if !slices.Contains(known, v) {
			return fmt.Errorf("%s: unknown %q, known are %q", field, v, known)
		}
		if slices.Contains(got[:i], v) {
			return fmt.Errorf("%s: %q twice", field, v)
		}
	}
	return nil
}

func validName(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

func validUser(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-_+") == ""
}

func (c *Config) encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}
