package image

import (
	"encoding/hex"
	"testing"
)

// The headers that AAVMF itself writes on an erased flash.
func TestVariableStoreHeaders(t *testing.T) {
	flash, err := VariableStore(SecureBootCertificates{PK: []byte{1}, KEK: []byte{2}, DB: []byte{3}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		at   int
		want string
	}{
		{"volume", 0, "000000000000000000000000000000008d2bf1ff96768b4ca9852747075b4f5000000c00000000005f465648360e00004800f8f80000000200010000000004000000000000000000"},
		{"variable store", 0x48, "782cf3aa7b949a43a1802e144ec37792b8ff03005afe000000000000"},
		{"working block", 0x40000, "2b29589e687c7d49a0ce6500fd9f1b955be7c686feffffffe0ff030000000000"},
	}
	for _, tt := range tests {
		if got := hex.EncodeToString(flash[tt.at : tt.at+len(tt.want)/2]); got != tt.want {
			t.Errorf("%s header = %s, want %s", tt.name, got, tt.want)
		}
	}
}

// As AAVMF wrote its CustomMode variable.
func TestEncodeVariable(t *testing.T) {
	v := variable{"CustomMode", "c076ec0c-7028-4399-a072-71ee5c448b9f", attrBootOnly, []byte{0}}
	want := "aa553f0003000000000000000000000000000000000000000000000000000000000000001600000001000000" +
		"0cec76c028709943a07271ee5c448b9f" + "43007500730074006f006d004d006f00640065000000" + "00"
	if got := hex.EncodeToString(encodeVariable(v)); got != want {
		t.Errorf("encodeVariable = %s, want %s", got, want)
	}
}

func TestVariableStoreRefusesMissingKeys(t *testing.T) {
	full := SecureBootCertificates{PK: []byte{1}, KEK: []byte{2}, DB: []byte{3}}
	for _, clear := range []func(*SecureBootCertificates){
		func(c *SecureBootCertificates) { c.PK = nil }, func(c *SecureBootCertificates) { c.KEK = nil }, func(c *SecureBootCertificates) { c.DB = nil },
	} {
		c := full
		clear(&c)
		if _, err := VariableStore(c); err == nil {
			t.Errorf("VariableStore(%+v) accepted a missing key", c)
		}
	}
}
