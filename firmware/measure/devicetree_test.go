package measure

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// The tree of the virt64 board as the build makes it, and as a kernel that was
// started with it under UEFI shows it in /sys/firmware/fdt.
func TestDeviceTreeOfRunningBoardEqualsFile(t *testing.T) {
	file, running := readTree(t, "virt64-file.dtb"), readTree(t, "virt64-running.dtb")
	if bytes.Equal(file, running) {
		t.Fatal("the two blobs are the same; the test would show nothing")
	}
	want, err := DeviceTree(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DeviceTree(running); err != nil || got != want {
		t.Errorf("DeviceTree(running) = %x, %v, want %x", got, err, want)
	}
}

func readTree(t testing.TB, name string) []byte {
	t.Helper()
	blob, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// sample is a small tree; edit may change it.
func sample(edit func(root *treeNode)) []byte {
	root := &treeNode{
		properties: []treeProperty{{"model", []byte("phone\x00")}, {"compatible", []byte("ringfence,test\x00")}},
		children: []*treeNode{
			{name: "chosen", properties: []treeProperty{{"stdout-path", []byte("/uart\x00")}, {"kaslr-seed", make([]byte, 8)}}},
			{name: "keys", children: []*treeNode{{name: "hook", properties: []treeProperty{{"gpios", []byte{0, 0, 0, 5}}, {"debounce", nil}}}}},
		},
	}
	if edit != nil {
		edit(root)
	}
	return encodeTree(root)
}

// encodeTree writes the flattened format, independently of the parser.
func encodeTree(root *treeNode) []byte {
	var structure, names []byte
	be := binary.BigEndian
	var node func(n *treeNode)
	node = func(n *treeNode) {
		structure = be.AppendUint32(structure, 1)
		structure = pad(append(append(structure, n.name...), 0))
		for _, p := range n.properties {
			structure = be.AppendUint32(structure, 3)
			structure = be.AppendUint32(structure, uint32(len(p.value)))
			structure = be.AppendUint32(structure, uint32(len(names)))
			structure = pad(append(structure, p.value...))
			names = append(append(names, p.name...), 0)
		}
		for _, c := range n.children {
			node(c)
		}
		structure = be.AppendUint32(structure, 2)
	}
	node(root)
	structure = be.AppendUint32(structure, 9)
	total := int64(40 + 16 + len(structure) + len(names))
	var out []byte
	for _, v := range []int64{0xd00dfeed, total, 56, 56 + int64(len(structure)), 40, 17, 16, 0, int64(len(names)), int64(len(structure))} {
		out = be.AppendUint32(out, uint32(v))
	}
	return append(append(append(out, make([]byte, 16)...), structure...), names...)
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestDeviceTreeDigest(t *testing.T) {
	chosen := func(r *treeNode) *treeNode { return r.children[0] }
	tests := []struct {
		name string
		edit func(r *treeNode)
		same bool
	}{
		{"nothing", nil, true},
		{"seed of each boot", func(r *treeNode) { chosen(r).properties[1].value = []byte("another!") }, true},
		{"what the EFI stub adds", func(r *treeNode) {
			chosen(r).properties = append(chosen(r).properties, treeProperty{"linux,uefi-system-table", make([]byte, 8)}, treeProperty{"bootargs", []byte("x\x00")})
		}, true},
		{"order of properties", func(r *treeNode) { r.properties[0], r.properties[1] = r.properties[1], r.properties[0] }, true},
		{"order of nodes", func(r *treeNode) { r.children[0], r.children[1] = r.children[1], r.children[0] }, true},
		{"a value", func(r *treeNode) { r.properties[0].value = []byte("phonf\x00") }, false},
		{"a deep value", func(r *treeNode) { r.children[1].children[0].properties[0].value = []byte{0, 0, 0, 6} }, false},
		{"a name", func(r *treeNode) { r.properties[0].name = "modem" }, false},
		{"a node's name", func(r *treeNode) { r.children[1].name = "keyz" }, false},
		{"a property less", func(r *treeNode) { r.properties = r.properties[:1] }, false},
		{"a node more", func(r *treeNode) { r.children = append(r.children, &treeNode{name: "radio"}) }, false},
		{"a node moved up", func(r *treeNode) {
			r.children = append(r.children, r.children[1].children[0])
			r.children[1].children = nil
		}, false},
		{"empty value against none", func(r *treeNode) { r.children[1].children[0].properties[1].value = []byte{0} }, false},
		{"another property of chosen", func(r *treeNode) { chosen(r).properties[0].value = []byte("/other\x00") }, false},
		{"a seed outside of chosen", func(r *treeNode) { r.properties = append(r.properties, treeProperty{"kaslr-seed", make([]byte, 8)}) }, false},
		{"a seed below chosen", func(r *treeNode) {
			chosen(r).children = []*treeNode{{name: "x", properties: []treeProperty{{"rng-seed", nil}}}}
		}, false},
	}
	want, err := DeviceTree(sample(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		got, err := DeviceTree(sample(tt.edit))
		if err != nil || (got == want) != tt.same {
			t.Errorf("%s: digest equal = %v (%v), want %v", tt.name, got == want, err, tt.same)
		}
	}
}

// Every byte of the board's tree that a kernel would read counts.
func TestDeviceTreeEveryByteOfStructure(t *testing.T) {
	blob := readTree(t, "virt64-file.dtb")
	want, err := DeviceTree(blob)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openTree(blob)
	if err != nil {
		t.Fatal(err)
	}
	at, unnoticed := bytes.Index(blob, p.structure), 0
	for i := range p.structure {
		blob[at+i] ^= 1
		if got, err := DeviceTree(blob); err == nil && got == want {
			unnoticed++ // padding between items
		}
		blob[at+i] ^= 1
	}
	t.Logf("%d of %d bytes are padding", unnoticed, len(p.structure))
	if unnoticed > len(p.structure)/8 {
		t.Errorf("%d of %d bytes can change unnoticed", unnoticed, len(p.structure))
	}
}

func TestDeviceTreeMalformed(t *testing.T) {
	good := sample(nil)
	put := func(field int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[4*field:], v); return b }
	}
	tests := []struct {
		name string
		edit func([]byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"too large", func(b []byte) []byte { return append(b, make([]byte, MaxDeviceTree)...) }},
		{"cut short", func(b []byte) []byte { return b[:len(b)-1] }},
		{"magic", put(0, 0xd00dfeee)},
		{"total size", put(1, 1<<31)},
		{"structure offset", put(2, 0xfffffff0)},
		{"strings size", put(8, 0xfffffff0)},
		{"old version", put(5, 3)},
		{"structure too short", put(9, 60)},
		{"structure without end", func(b []byte) []byte { return put(9, binary.BigEndian.Uint32(b[36:])-4)(b) }},
		{"named root", func([]byte) []byte { return sample(func(r *treeNode) { r.name = "root" }) }},
		{"property twice", func([]byte) []byte {
			return sample(func(r *treeNode) { r.properties = append(r.properties, r.properties[0]) })
		}},
		{"node twice", func([]byte) []byte {
			return sample(func(r *treeNode) { r.children = append(r.children, r.children[0]) })
		}},
		{"slash in a node's name", func([]byte) []byte { return sample(func(r *treeNode) { r.children[0].name = "a/b" }) }},
		{"too deep", func([]byte) []byte {
			return sample(func(r *treeNode) {
				for n, i := r, 0; i < 40; n, i = n.children[len(n.children)-1], i+1 {
					n.children = append(n.children, &treeNode{name: "deeper"})
				}
			})
		}},
	}
	for _, tt := range tests {
		if _, err := DeviceTree(tt.edit(bytes.Clone(good))); !errors.Is(err, ErrDeviceTree) {
			t.Errorf("%s: DeviceTree error = %v, want %v", tt.name, err, ErrDeviceTree)
		}
	}
}

func FuzzDeviceTree(f *testing.F) {
	f.Add(sample(nil))
	f.Add(readTree(f, "virt64-running.dtb"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		first, err := DeviceTree(blob)
		if second, again := DeviceTree(blob); first != second || (err == nil) != (again == nil) {
			t.Error("two digests of one blob differ")
		}
	})
}
