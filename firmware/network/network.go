// Package network brings the phone's wired link up: a default-deny packet
// filter before the link, DHCP, address, route and resolver, and their
// renewal. What DHCP says is a hint and never a credential. VLANs, 802.1X and
// time are not here yet.
//
// Sources: RFC 2131, RFC 2132 (DHCP), RFC 8572 section 8.1 (option 143),
// nft(8).
package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Lease is what the network told the phone.
type Lease struct {
	Interface string        `json:"interface"`
	Address   netip.Prefix  `json:"address"`
	Router    netip.Addr    `json:"router,omitzero"`
	Resolvers []netip.Addr  `json:"resolvers"`
	Hints     []string      `json:"hints"` // https URLs of provisioning services, in the server's order
	Server    netip.Addr    `json:"server"`
	Until     time.Duration `json:"until"` // lifetime from the moment it was given
	Renew     time.Duration `json:"renew"` // when to renew, T1 of RFC 2131
}

// Validate refuses a lease that the phone cannot use.
func (l *Lease) Validate() error {
	switch {
	case !l.Address.IsValid() || !l.Address.Addr().Is4() || l.Address.Addr().IsLoopback() || l.Address.Addr().IsUnspecified() ||
		l.Address.Addr().IsMulticast():
		return fmt.Errorf("lease with address %s", l.Address)
	case l.Address.Bits() == 0 || l.Address.Bits() > 31:
		return fmt.Errorf("lease with mask /%d", l.Address.Bits())
	case l.Until < time.Minute:
		return fmt.Errorf("lease of %s, want a minute at least", l.Until)
	case len(l.Resolvers) == 0:
		return errors.New("lease without a name server")
	}
	return nil
}

const maxHints = 4

// parseHints reads DHCP option 143: a list of URIs, each behind a 16-bit
// length (RFC 8572 section 8.3). Anything but https with a host is passed over.
func parseHints(raw []byte) ([]string, error) {
	var hints []string
	for len(raw) > 0 {
		if len(raw) < 2 {
			return nil, errors.New("option 143 is cut off")
		}
		n := int(binary.BigEndian.Uint16(raw))
		if n == 0 || n > len(raw)-2 {
			return nil, fmt.Errorf("option 143: URI of %d bytes in %d", n, len(raw)-2)
		}
		u, err := url.Parse(string(raw[2 : 2+n]))
		if err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && len(hints) < maxHints {
			hints = append(hints, u.String())
		}
		raw = raw[2+n:]
	}
	return hints, nil
}

// resolverFile is the content of resolv.conf(5).
func resolverFile(servers []netip.Addr) string {
	var b strings.Builder
	for _, s := range servers[:min(len(servers), 3)] {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	b.WriteString("options timeout:1 attempts:3\n")
	return b.String()
}
