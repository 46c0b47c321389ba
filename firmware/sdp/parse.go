package sdp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"

	"ringfence/provisioning/wire/lock"
)

// audio is the one stream of a session description that we may use.
type audio struct {
	index     int // among the m= lines
	lines     []string
	remote    netip.AddrPort
	formats   []uint8
	names     map[uint8]string // rtpmap, upper case, without "/1"
	crypto    []crypto
	why       error // why the last unusable crypto line was refused
	direction Direction
	mux       bool
	maxptime  int
}

// codecOf names the codec behind payload type f.
func (a audio) codecOf(f uint8) lock.Codec {
	name, mapped := a.names[f]
	for _, c := range []lock.Codec{lock.G722, lock.PCMU, lock.PCMA} {
		static, _ := payloadType(c)
		// RFC 3551 section 4.5.2: G722 says 8000 although it samples at 16000.
		if mapped && name == string(c)+"/8000" || !mapped && f == static {
			return c
		}
	}
	return ""
}

// eventType is the payload type of telephone-event, 0 when absent.
func (a audio) eventType() uint8 {
	for _, f := range a.formats {
		if a.names[f] == "TELEPHONE-EVENT/8000" && f >= 96 {
			return f
		}
	}
	return 0
}

// parse finds the first encrypted audio stream of raw.
func parse(raw []byte) (audio, error) {
	if len(raw) == 0 || len(raw) > MaxSize {
		return audio{}, fmt.Errorf("%d bytes, want 1 to %d: %w", len(raw), MaxSize, ErrMalformed)
	}
	var sd pion.SessionDescription
	if err := sd.Unmarshal(raw); err != nil {
		return audio{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if len(sd.MediaDescriptions) > maxMedia {
		return audio{}, fmt.Errorf("%d streams, at most %d: %w", len(sd.MediaDescriptions), maxMedia, ErrMalformed)
	}
	found := audio{index: -1}
	for i, m := range sd.MediaDescriptions {
		found.lines = append(found.lines, m.MediaName.Media+" 0 "+strings.Join(m.MediaName.Protos, "/")+" "+firstFormat(m))
		if found.index < 0 && usable(m) {
			found.index = i
			if err := found.read(&sd, m); err != nil {
				return audio{}, err
			}
		}
	}
	if found.index < 0 {
		return audio{}, ErrClear
	}
	return found, nil
}

func firstFormat(m *pion.MediaDescription) string {
	if len(m.MediaName.Formats) == 0 {
		return "0"
	}
	return m.MediaName.Formats[0]
}

func usable(m *pion.MediaDescription) bool {
	n := m.MediaName
	return n.Media == "audio" && n.Port.Value != 0 && strings.Join(n.Protos, "/") == "RTP/SAVP"
}

func (a *audio) read(sd *pion.SessionDescription, m *pion.MediaDescription) error {
	conn := m.ConnectionInformation
	if conn == nil {
		conn = sd.ConnectionInformation
	}
	if err := a.readAddress(conn, m.MediaName.Port.Value); err != nil {
		return err
	}
	if len(m.MediaName.Formats) > maxFormats {
		return fmt.Errorf("%d formats, at most %d: %w", len(m.MediaName.Formats), maxFormats, ErrMalformed)
	}
	for _, f := range m.MediaName.Formats {
		n, err := strconv.ParseUint(f, 10, 7)
		if err != nil {
			return fmt.Errorf("format %q: %w", f, ErrMalformed)
		}
		a.formats = append(a.formats, uint8(n))
	}
	a.names, a.direction = map[uint8]string{}, SendRecv
	for _, attr := range sd.Attributes {
		a.readDirection(attr.Key)
	}
	for _, attr := range m.Attributes {
		if err := a.readAttribute(attr); err != nil {
			return err
		}
	}
	return nil
}

// readAddress wants an address literal: resolving a name that a stranger
// chose would make the phone send packets of its choice. 0.0.0.0 is the hold
// of RFC 2543 and has no address to send to.
func (a *audio) readAddress(c *pion.ConnectionInformation, port int) error {
	if c == nil || c.Address == nil || c.NetworkType != "IN" {
		return fmt.Errorf("no connection line: %w", ErrAddress)
	}
	ip, err := netip.ParseAddr(c.Address.Address)
	if err != nil || ip.Zone() != "" || c.Address.TTL != nil || c.Address.Range != nil {
		return fmt.Errorf("%q is not a plain address: %w", c.Address.Address, ErrAddress)
	}
	ip = ip.Unmap()
	if ip.IsMulticast() || ip.IsUnspecified() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || port < 1024 || port > 65535 {
		return fmt.Errorf("%s port %d: %w", ip, port, ErrAddress)
	}
	a.remote = netip.AddrPortFrom(ip, uint16(port))
	return nil
}

func (a *audio) readDirection(key string) {
	switch d := Direction(key); d {
	case SendRecv, SendOnly, RecvOnly, Inactive:
		a.direction = d
	}
}

func (a *audio) readAttribute(attr pion.Attribute) error {
	a.readDirection(attr.Key)
	switch attr.Key {
	case "rtcp-mux":
		a.mux = true
	case "maxptime":
		n, err := strconv.Atoi(attr.Value)
		if err != nil || n <= 0 {
			return fmt.Errorf("maxptime %q: %w", attr.Value, ErrMalformed)
		}
		a.maxptime = n
	case "rtpmap":
		return a.readMap(attr.Value)
	case "crypto":
		return a.readCrypto(attr.Value)
	}
	return nil
}

func (a *audio) readMap(value string) error {
	f, name, ok := strings.Cut(value, " ")
	n, err := strconv.ParseUint(f, 10, 7)
	if !ok || err != nil || len(a.names) >= maxFormats {
		return fmt.Errorf("rtpmap %q: %w", value, ErrMalformed)
	}
	if _, twice := a.names[uint8(n)]; twice {
		return fmt.Errorf("rtpmap %d twice: %w", n, ErrMalformed)
	}
	a.names[uint8(n)] = strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(name)), "/1")
	return nil
}

// readCrypto keeps a usable line; an unusable one is passed over with its
// reason, since the peer may offer a better one (RFC 4568 section 5.1.2).
func (a *audio) readCrypto(value string) error {
	if len(a.crypto) >= maxCrypto {
		return fmt.Errorf("more than %d crypto lines: %w", maxCrypto, ErrMalformed)
	}
	c, err := parseCrypto(value)
	if err != nil {
		a.why = err
		return nil
	}
	for _, other := range a.crypto {
		if other.tag == c.tag {
			return fmt.Errorf("crypto tag %d twice: %w", c.tag, ErrMalformed)
		}
	}
	a.crypto = append(a.crypto, c)
	return nil
}
