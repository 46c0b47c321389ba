package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

// Config of Run. All fields are required.
type Config struct {
	Interface string // name, such as "eth0"; "" for the only wired one
	Policy    func() Policy
	Resolver  string // file that is written as resolv.conf(5)
	Log       *slog.Logger
	// Changed is told of each lease that was applied.
	Changed func(Lease)
}

// Run loads the packet filter, brings the link up and keeps a lease until ctx
// ends. It retries for ever: a phone without a network waits for one.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Policy == nil || cfg.Resolver == "" || cfg.Log == nil || cfg.Changed == nil {
		return errors.New("network: policy, resolver file, logger and receiver are required")
	}
	if err := Filter(cfg.Policy()); err != nil {
		return err // no link without its filter
	}
	link, err := up(cfg.Interface)
	if err != nil {
		return err
	}
	var held *nclient4.Lease
	var expires time.Time
	for ctx.Err() == nil {
		wait := time.Second
		raw, l, err := acquire(ctx, link.Attrs().Name, held)
		if err == nil {
			err = apply(link, l, cfg)
		}
		switch {
		case err == nil:
			held, expires, wait = raw, time.Now().Add(l.Until), l.Renew
			cfg.Changed(*l)
		case ctx.Err() == nil:
			cfg.Log.Warn("no lease", "error", err)
			if held != nil && time.Now().After(expires) { // RFC 2131 4.4.5: stop using it
				held = nil
				err = errors.Join(err, flush(link, netip.Prefix{}))
				cfg.Log.Warn("lease expired", "error", err)
			} else if held != nil {
				wait = 30 * time.Second
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// up finds the wired interface and takes it up.
func up(name string) (netlink.Link, error) {
	if name == "" {
		var err error
		if name, err = wired(); err != nil {
			return nil, err
		}
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	if lo, err := netlink.LinkByName("lo"); err == nil {
		_ = netlink.LinkSetDown(lo) // nothing on the phone listens there
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("take %s up: %w", name, err)
	}
	return link, nil
}

func wired() (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("list links: %w", err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && len(i.HardwareAddr) == 6 {
			return i.Name, nil
		}
	}
	return "", errors.New("no wired link")
}

func apply(link netlink.Link, l *Lease, cfg Config) error {
	ipn := &net.IPNet{IP: l.Address.Addr().AsSlice(), Mask: net.CIDRMask(l.Address.Bits(), 32)}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipn}); err != nil {
		return fmt.Errorf("set address %s: %w", l.Address, err)
	}
	if err := flush(link, l.Address); err != nil {
		return err
	}
	if l.Router.IsValid() {
		err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: l.Router.AsSlice()})
		if err != nil {
			return fmt.Errorf("set route by %s: %w", l.Router, err)
		}
	}
	if err := os.WriteFile(cfg.Resolver, []byte(resolverFile(l.Resolvers)), 0o644); err != nil {
		return fmt.Errorf("write resolver file: %w", err)
	}
	p := cfg.Policy()
	p.Resolvers = slices.Clone(l.Resolvers)
	return Filter(p)
}

// flush removes every address but keep.
func flush(link netlink.Link, keep netip.Prefix) error {
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if got, ok := netip.AddrFromSlice(a.IP.To4()); ok && got == keep.Addr() {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	return nil
}
