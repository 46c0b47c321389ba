package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Policy is what the packet filter lets through; everything else is dropped.
// Without resolvers, ports and media it lets nothing through; DHCP uses a
// packet socket that only CAP_NET_RAW opens.
type Policy struct {
	Agent, Call, Media int // user ids

	Resolvers  []netip.Addr `json:"resolvers"` // DNS servers of Agent and Call
	AgentPorts []uint16     `json:"agent_ports"`
	CallPorts  []uint16     `json:"call_ports"`
	RTPMin     uint16       `json:"rtp_min"` // 0 for no media
	RTPMax     uint16       `json:"rtp_max"`
}

// TableName is the nftables table of the phone.
const TableName = "ringfence"

// Validate refuses a policy that would let root or nobody in particular out.
func (p *Policy) Validate() error {
	for _, uid := range []int{p.Agent, p.Call, p.Media} {
		if uid <= 0 {
			return fmt.Errorf("packet filter: user %d", uid)
		}
	}
	if p.RTPMin != 0 && (p.RTPMin < 1024 || p.RTPMax < p.RTPMin) {
		return fmt.Errorf("packet filter: RTP ports %d to %d", p.RTPMin, p.RTPMax)
	}
	return nil
}

// Filter replaces the whole packet filter in one transaction: at no moment is
// there none. The kernel has no IPv6, so the ip family is all of it.
func Filter(p Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("packet filter: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: TableName}
	c.AddTable(t) // so that deleting it cannot fail
	c.DelTable(t)
	t = c.AddTable(t)
	drop := nftables.ChainPolicyDrop
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	}
	for hook, rules := range map[*nftables.Chain][][]expr.Any{
		chain("input", nftables.ChainHookInput):     p.input(),
		chain("output", nftables.ChainHookOutput):   p.output(),
		chain("forward", nftables.ChainHookForward): nil,
	} {
		for _, r := range rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: hook, Exprs: append(r, &expr.Verdict{Kind: expr.VerdictAccept})})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("load packet filter: %w", err)
	}
	return nil
}

// RemoveFilter takes the phone's table away. Only test images call it.
func RemoveFilter() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: TableName})
	return errors.Join(c.Flush())
}

func (p *Policy) input() [][]expr.Any {
	rules := [][]expr.Any{established()} // DHCP is read from a packet socket, before the filter
	if p.RTPMin != 0 {
		rules = append(rules, join(proto(unix.IPPROTO_UDP), ports(destinationPort, p.RTPMin, p.RTPMax)))
	}
	return rules
}

func (p *Policy) output() [][]expr.Any {
	var rules [][]expr.Any // DHCP is written to a packet socket, behind the filter
	for _, uid := range []int{p.Agent, p.Call} {
		for _, r := range p.Resolvers {
			rules = append(rules,
				join(user(uid), destination(r), proto(unix.IPPROTO_UDP), ports(destinationPort, 53, 53)),
				join(user(uid), destination(r), proto(unix.IPPROTO_TCP), ports(destinationPort, 53, 53)))
		}
	}
	for _, port := range p.AgentPorts {
		rules = append(rules, join(user(p.Agent), proto(unix.IPPROTO_TCP), ports(destinationPort, port, port)))
	}
	for _, port := range p.CallPorts {
		rules = append(rules, join(user(p.Call), proto(unix.IPPROTO_TCP), ports(destinationPort, port, port)))
	}
	if p.RTPMin != 0 {
		rules = append(rules, join(user(p.Media), proto(unix.IPPROTO_UDP), ports(sourcePort, p.RTPMin, p.RTPMax)))
	}
	// Segments that the kernel sends for a socket that is gone (FIN, RST after
	// the role was ended) have no user; without them peers wait for a time-out.
	return append(rules, join(proto(unix.IPPROTO_TCP), established()))
}

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func proto(n byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{n}}}
}

func user(uid int) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(uint32(uid))}}
}

func destination(a netip.Addr) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()}}
}

// Offsets in the TCP and UDP headers (RFC 9293, RFC 768).
const (
	sourcePort      = 0
	destinationPort = 2
)

func ports(offset uint32, first, last uint16) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: binary.BigEndian.AppendUint16(nil, first)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: binary.BigEndian.AppendUint16(nil, last)}}
}
