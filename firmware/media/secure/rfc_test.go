package secure

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 3711 B.3: key derivation of AES-CM.
func TestRFC3711B3KeyDerivation(t *testing.T) {
	key, salt := unhex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"), unhex(t, "0EC675AD498AFEEBB6960B3AABE6")
	for _, c := range []struct {
		label byte
		want  string
	}{
		{labelRTPKey, "C61E7A93744F39EE10734AFE3FF7A087"},
		{labelRTPSalt, "30CBBC08863D8C85D49DB34A9AE1"},
		{labelRTPAuth, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"},
	} {
		want := unhex(t, c.want)
		if got, err := derive(key, salt, c.label, len(want)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("derive(label %d) = %x, %v, want %x", c.label, got, err, want)
		}
	}
}

// RFC 3711 B.2: AES-CM key stream (index and SSRC zero).
func TestRFC3711B2KeyStream(t *testing.T) {
	c, err := newCM(make([]byte, 16), make([]byte, 14))
	if err != nil {
		t.Fatal(err)
	}
	if c.rtp, err = aes.NewCipher(unhex(t, "2B7E151628AED2A6ABF7158809CF4F3C")); err != nil {
		t.Fatal(err)
	}
	copy(c.rtpSalt[:], unhex(t, "F0F1F2F3F4F5F6F7F8F9FAFBFCFD"))
	want := unhex(t, `E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
		41E95B3BB0A2E8DD477901E4FCA894C0`)
	got := make([]byte, len(want))
	c.xor(c.rtp, &c.rtpSalt, got, make([]byte, len(want)), 0, 0)
	if !bytes.Equal(got, want) {
		t.Errorf("key stream = %x, want %x", got, want)
	}
}

// rfcGCM has the session keys of RFC 7714 16 and 17 in place of derived ones.
func rfcGCM(t *testing.T) *gcm {
	t.Helper()
	key := unhex(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	g, err := newGCM(key, make([]byte, 12))
	if err != nil {
		t.Fatal(err)
	}
	if g.rtp, err = newAEAD(key); err != nil {
		t.Fatal(err)
	}
	g.rtcp = g.rtp
	copy(g.rtpSalt[:], unhex(t, "517569642070726f2071756f"))
	g.rtcpSalt = g.rtpSalt
	return g
}

// RFC 7714 16.2: SRTP AEAD_AES_256_GCM.
func TestRFC7714Section16RTP(t *testing.T) {
	plain := unhex(t, `8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
		69736120 696e2070 61727465 73207472 6573`)
	want := unhex(t, `8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
		9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13`)
	s := &Sealer{t: rfcGCM(t), ssrc: 0x5501a0b2}
	got, err := s.SealRTP(make([]byte, 0, 100), plain)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("SealRTP = %x, %v, want %x", got, err, want)
	}
	o := &Opener{t: rfcGCM(t)}
	if got, err = o.OpenRTP(make([]byte, 0, 100), want); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("OpenRTP = %x, %v, want %x", got, err, plain)
	}
}

// RFC 7714 17.2: SRTCP AEAD_AES_256_GCM, index 0x5d4.
func TestRFC7714Section17RTCP(t *testing.T) {
	plain := unhex(t, `81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
		deadbeef deadbeef deadbeef deadbeef deadbeef`)
	want := unhex(t, `81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50
		a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4`)
	s := &Sealer{t: rfcGCM(t), ssrc: 0x4d617273, rtcp: 0x5d4}
	got, err := s.SealRTCP(make([]byte, 0, 100), plain)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("SealRTCP = %x, %v, want %x", got, err, want)
	}
	o := &Opener{t: rfcGCM(t)}
	if got, err = o.OpenRTCP(make([]byte, 0, 100), want); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("OpenRTCP = %x, %v, want %x", got, err, plain)
	}
}
