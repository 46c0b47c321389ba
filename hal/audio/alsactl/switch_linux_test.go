package alsactl

import (
	"errors"
	"os"
	"testing"
	"unsafe"
)

// Sizes from a C compiler with asound.h; the ioctl numbers contain them.
func TestStructureSizes(t *testing.T) {
	value := uintptr(1224)
	if unsafe.Sizeof(uintptr(0)) == 4 {
		value = 712
	}
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"snd_ctl_elem_id", unsafe.Sizeof(elemID{}), 64},
		{"snd_ctl_elem_info", unsafe.Sizeof(elemInfo{}), 272},
		{"snd_ctl_elem_value", unsafe.Sizeof(elemValue{}), value},
		{"offset of value", unsafe.Offsetof(elemValue{}.value), 72},
	} {
		if c.got != c.want {
			t.Errorf("%s = %d bytes, want %d", c.name, c.got, c.want)
		}
	}
}

// What is no control device refuses the ioctl; a name that cannot be one is
// refused before. The real codec is in the board's boot test.
func TestOpenRefuses(t *testing.T) {
	for _, name := range []string{"Mic Capture Switch", "", "a name that is longer than the forty-four bytes there are"} {
		if s, err := Open(os.DevNull, name); err == nil {
			t.Errorf("Open(%s, %q) = %v, nil, want an error", os.DevNull, name, s)
		}
	}
	if s, err := Open(t.TempDir()+"/absent", "Mic"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open(absent) = %v, %v, want os.ErrNotExist", s, err)
	}
}
