package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// optionRedirect is OPTION_V4_SZTP_REDIRECT (RFC 8572 section 8.1).
var optionRedirect = dhcpv4.GenericOptionCode(143)

// The first answer comes at once or was lost: ask again soon, often.
const (
	dhcpTry   = 700 * time.Millisecond
	dhcpTries = 6
)

// acquire asks for a lease; with old it renews that one by broadcast, which
// every server of the segment may answer (RFC 2131 section 4.4.5, REBINDING).
func acquire(ctx context.Context, ifname string, old *nclient4.Lease) (*nclient4.Lease, *Lease, error) {
	c, err := nclient4.New(ifname, nclient4.WithTimeout(dhcpTry), nclient4.WithRetry(dhcpTries))
	if err != nil {
		return nil, nil, fmt.Errorf("open DHCP socket: %w", err)
	}
	defer c.Close()
	options := dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
		dhcpv4.OptionIPAddressLeaseTime, optionRedirect)
	var raw *nclient4.Lease
	if old != nil {
		raw, err = c.Renew(ctx, old, options)
	} else {
		raw, err = c.Request(ctx, options)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("DHCP: %w", err)
	}
	l, err := fromACK(raw.ACK)
	if err != nil {
		return nil, nil, fmt.Errorf("DHCP: %w", err)
	}
	l.Interface = ifname
	return raw, l, nil
}

func fromACK(ack *dhcpv4.DHCPv4) (*Lease, error) {
	l := &Lease{Until: ack.IPAddressLeaseTime(0), Server: addr(ack.ServerIdentifier())}
	bits, _ := ack.SubnetMask().Size()
	if a := addr(ack.YourIPAddr); a.IsValid() {
		l.Address = netip.PrefixFrom(a, bits)
	}
	if routers := ack.Router(); len(routers) > 0 {
		l.Router = addr(routers[0])
	}
	for _, ip := range ack.DNS() {
		if a := addr(ip); a.IsValid() && !slices.Contains(l.Resolvers, a) && len(l.Resolvers) < 3 {
			l.Resolvers = append(l.Resolvers, a)
		}
	}
	hints, err := parseHints(ack.Options.Get(optionRedirect))
	if err != nil {
		return nil, err
	}
	l.Hints = hints
	l.Renew = min(max(ack.IPAddressRenewalTime(l.Until/2), 30*time.Second), 24*time.Hour)
	return l, l.Validate()
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4()) // invalid for nil: Validate refuses it
	return a
}
