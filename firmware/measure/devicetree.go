// Package measure turns what a phone runs on into digests for its TPM. It does
// not judge them: the server compares them with signed reference values.
//
// Specifications: Devicetree Specification v0.4 chapter 5 (flattened format),
// TCG PC Client Platform Firmware Profile 1.05.
package measure

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// MaxDeviceTree bounds a device tree, in bytes.
const MaxDeviceTree = 1 << 20

// Bounds of a tree's shape.
const (
	maxTreeDepth = 32
	maxTreeItems = 65536 // nodes and properties together
)

// Format constants (Devicetree Specification 5.2 and 5.4.1).
const (
	fdtMagic      = uint32(0xd00dfeed)
	fdtHeaderSize = 40
	fdtVersion    = 17
	tokenBegin    = 1
	tokenEnd      = 2
	tokenProperty = 3
	tokenNop      = 4
	tokenFinish   = 9
)

// ErrDeviceTree reports a blob that is not a well-formed device tree.
var ErrDeviceTree = errors.New("malformed device tree")

// DeviceTree returns the canonical digest of a flattened device tree: SHA-256
// over all nodes and properties, each level sorted by name, except the
// properties of /chosen that firmware or the kernel's EFI stub writes afresh
// on every boot. Memory reservations are left out, too: the EFI stub deletes
// them (Linux drivers/firmware/efi/libstub/fdt.c) and the UEFI memory map
// rules. So the digest of the board's file equals that of /sys/firmware/fdt on
// a phone that was started with it.
func DeviceTree(blob []byte) ([32]byte, error) {
	p, err := openTree(blob)
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrDeviceTree, err)
	}
	root, err := p.tree()
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrDeviceTree, err)
	}
	h := sha256.New()
	h.Write([]byte("ringfence device tree 1\x00"))
	root.digest(h, "/")
	return [32]byte(h.Sum(nil)), nil
}

// volatileChosen reports whether a property of /chosen differs from boot to
// boot: seeds, where the EFI stub put things, and the command line, which is
// measured by itself (PCR 9 and 11).
func volatileChosen(name string) bool {
	switch name {
	case "kaslr-seed", "rng-seed", "bootargs", "linux,initrd-start", "linux,initrd-end":
		return true
	}
	return strings.HasPrefix(name, "linux,uefi-")
}

type treeProperty struct {
	name  string
	value []byte
}

type treeNode struct {
	name       string
	properties []treeProperty
	children   []*treeNode
}

// digest writes every item with its length, so that no two trees have the same
// text.
func (n *treeNode) digest(h hash.Hash, path string) {
	properties, children := slices.Clone(n.properties), slices.Clone(n.children)
	slices.SortFunc(properties, func(a, b treeProperty) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(children, func(a, b *treeNode) int { return cmp.Compare(a.name, b.name) })
	item(h, 'N', []byte(n.name))
	for _, p := range properties {
		if path == "/chosen" && volatileChosen(p.name) {
			continue
		}
		item(h, 'P', []byte(p.name))
		item(h, 'V', p.value)
	}
	for _, c := range children {
		c.digest(h, strings.TrimSuffix(path, "/")+"/"+c.name)
	}
	item(h, 'E', nil)
}

func item(h hash.Hash, kind byte, data []byte) {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data)))
	h.Write(head)
	h.Write(data)
}

// treeParser reads the structure block.
type treeParser struct {
	structure []byte // what is left of it
	names     []byte // strings block
	items     int
}

// openTree checks the header and cuts out the two blocks.
func openTree(blob []byte) (*treeParser, error) {
	if len(blob) < fdtHeaderSize || len(blob) > MaxDeviceTree {
		return nil, fmt.Errorf("%d bytes, want %d to %d", len(blob), fdtHeaderSize, MaxDeviceTree)
	}
	field := func(i int) uint32 { return binary.BigEndian.Uint32(blob[4*i:]) }
	if field(0) != fdtMagic {
		return nil, fmt.Errorf("magic %#x, want %#x", field(0), fdtMagic)
	}
	if total := uint64(field(1)); total < fdtHeaderSize || total > uint64(len(blob)) {
		return nil, fmt.Errorf("total size %d of a blob of %d bytes", total, len(blob))
	}
	if field(5) < fdtVersion || field(6) > fdtVersion {
		return nil, fmt.Errorf("version %d, compatible with %d, want %d", field(5), field(6), fdtVersion)
	}
	blob = blob[:field(1)]
	structure, err := cut(blob, field(2), field(9))
	if err != nil {
		return nil, fmt.Errorf("structure block: %w", err)
	}
	names, err := cut(blob, field(3), field(8))
	if err != nil {
		return nil, fmt.Errorf("strings block: %w", err)
	}
	return &treeParser{structure: structure, names: names}, nil
}

func cut(blob []byte, offset, size uint32) ([]byte, error) {
	if offset < fdtHeaderSize || uint64(offset)+uint64(size) > uint64(len(blob)) {
		return nil, fmt.Errorf("%d bytes at %d of %d", size, offset, len(blob))
	}
	return blob[offset : offset+size], nil
}

// tree reads the one root node and the end.
func (p *treeParser) tree() (*treeNode, error) {
	token, err := p.token()
	if err != nil {
		return nil, err
	}
	if token != tokenBegin {
		return nil, fmt.Errorf("token %d, want the root node", token)
	}
	root, err := p.node(1)
	if err != nil {
		return nil, err
	}
	if root.name != "" {
		return nil, fmt.Errorf("root node is called %q", root.name)
	}
	if token, err = p.token(); err != nil {
		return nil, err
	}
	if token != tokenFinish || len(p.structure) != 0 {
		return nil, errors.New("data after the root node")
	}
	return root, nil
}

// node reads a node whose begin token was read.
func (p *treeParser) node(depth int) (*treeNode, error) {
	name, err := p.nodeName()
	if err != nil {
		return nil, err
	}
	if depth > maxTreeDepth {
		return nil, fmt.Errorf("node %q is deeper than %d levels", name, maxTreeDepth)
	}
	n := &treeNode{name: name}
	seen := map[string]bool{}
	for {
		token, err := p.token()
		if err != nil {
			return nil, err
		}
		switch token {
		case tokenProperty:
			err = p.property(n, seen)
		case tokenBegin:
			err = p.child(n, seen, depth)
		case tokenEnd:
			return n, nil
		default:
			err = fmt.Errorf("token %d in node %q", token, name)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *treeParser) child(n *treeNode, seen map[string]bool, depth int) error {
	c, err := p.node(depth + 1)
	if err != nil {
		return err
	}
	if c.name == "" || seen["/"+c.name] {
		return fmt.Errorf("child %q of node %q: empty or twice", c.name, n.name)
	}
	seen["/"+c.name] = true
	n.children = append(n.children, c)
	return nil
}

func (p *treeParser) property(n *treeNode, seen map[string]bool) error {
	if len(n.children) > 0 {
		return fmt.Errorf("property behind a child of node %q", n.name) // specification 5.4.2
	}
	head, err := p.take(8)
	if err != nil {
		return err
	}
	size, at := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
	name, err := p.propertyName(at)
	if err != nil {
		return err
	}
	value, err := p.take(size)
	if err != nil {
		return err
	}
	if name == "" || seen[name] {
		return fmt.Errorf("property %q of node %q: empty or twice", name, n.name)
	}
	seen[name] = true
	n.properties = append(n.properties, treeProperty{name, value})
	return nil
}

// token returns the next token that is not a NOP and counts it.
func (p *treeParser) token() (uint32, error) {
	for {
		raw, err := p.take(4)
		if err != nil {
			return 0, err
		}
		if p.items++; p.items > maxTreeItems {
			return 0, fmt.Errorf("more than %d items", maxTreeItems)
		}
		if token := binary.BigEndian.Uint32(raw); token != tokenNop {
			return token, nil
		}
	}
}

// take returns n bytes and skips the padding behind them.
func (p *treeParser) take(n uint32) ([]byte, error) {
	padded := (uint64(n) + 3) &^ 3
	if padded > uint64(len(p.structure)) {
		return nil, errors.New("structure block is cut short")
	}
	out := p.structure[:n]
	p.structure = p.structure[padded:]
	return out, nil
}

func (p *treeParser) nodeName() (string, error) {
	end := bytes.IndexByte(p.structure, 0)
	if end < 0 || bytes.IndexByte(p.structure[:end], '/') >= 0 {
		return "", errors.New("node name without end, or with a slash")
	}
	name := string(p.structure[:end])
	_, err := p.take(uint32(end + 1))
	return name, err
}

func (p *treeParser) propertyName(at uint32) (string, error) {
	if uint64(at) >= uint64(len(p.names)) {
		return "", fmt.Errorf("property name at %d of %d", at, len(p.names))
	}
	end := bytes.IndexByte(p.names[at:], 0)
	if end < 0 {
		return "", errors.New("property name without end")
	}
	return string(p.names[at : int(at)+end]), nil
}
