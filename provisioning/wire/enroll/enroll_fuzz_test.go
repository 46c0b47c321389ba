package enroll

import (
	"bytes"
	"testing"
	"time"
)

// FuzzParse: parsers of what an unproved server sends refuse or agree with
// their encoders.
func FuzzParse(f *testing.F) {
	good, err := MarshalCSRAttrs(bytes.Repeat([]byte{1}, NonceSize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"ietf-voucher:voucher":{"created-on":"2026-01-01T00:00:00Z","assertion":"verified","serial-number":"RF-0001"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if nonce, err := ParseCSRAttrs(in); err == nil {
			if len(nonce) != NonceSize {
				t.Fatalf("nonce of %d bytes", len(nonce))
			}
			if again, err := MarshalCSRAttrs(nonce); err != nil {
				t.Fatalf("encode %x: %x, %v", nonce, again, err)
			}
		}
		if owner, err := ParseVoucher(in, "RF-0001", time.Unix(0, 0)); err == nil && (owner == nil || !owner.IsCA) {
			t.Fatalf("voucher pins %+v", owner)
		}
	})
}
