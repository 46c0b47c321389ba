package all

import (
	"reflect"
	"testing"
)

func TestChoose(t *testing.T) {
	tree := []byte("ringfence,virt64\x00linux,dummy-virt\x00")
	tests := []struct {
		name, cmdline string
		tree          []byte
		want          string
	}{
		{"named and confirmed", "console=ttyAMA0 ringfence.board=virt64 quiet\n", tree, "virt64"},
		{"not named", "console=ttyAMA0", tree, ""},
		{"named twice", "ringfence.board=virt64 ringfence.board=virt64", tree, ""},
		{"unknown", "ringfence.board=toaster", tree, ""},
		{"another machine's tree", "ringfence.board=virt64", []byte("acme,toaster\x00"), ""},
		{"a bare machine of the same kind", "ringfence.board=virt64", []byte("linux,dummy-virt\x00"), ""},
		{"no tree", "ringfence.board=virt64", nil, ""},
	}
	for _, tt := range tests {
		b, err := Choose(tt.cmdline, tt.tree)
		if b.Name != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: Choose = %q, %v, want %q", tt.name, b.Name, err, tt.want)
		}
	}
}

func TestNoOpenerIsNil(t *testing.T) {
	for _, b := range Boards() {
		v := reflect.ValueOf(b)
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Func && f.IsNil() {
				t.Errorf("board %s: %s is nil", b.Name, v.Type().Field(i).Name)
			}
		}
	}
}
