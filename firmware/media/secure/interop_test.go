package secure

import (
	"bytes"
	"testing"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

func pionProfile(s Suite) srtp.ProtectionProfile {
	if s == AEADAES256GCM {
		return srtp.ProtectionProfileAeadAes256Gcm
	}
	return srtp.ProtectionProfileAes128CmHmacSha1_80
}

func pion(t testing.TB, s Suite, opts ...srtp.ContextOption) *srtp.Context {
	t.Helper()
	key, salt, err := s.split(testKey(t, s, 1))
	if err != nil {
		t.Fatal(err)
	}
	c, err := srtp.CreateContext(key, salt, pionProfile(s), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Ours seals, pion opens, across the wrap of the sequence number.
func TestInteropToPion(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		seal, _ := pair(t, s)
		peer := pion(t, s)
		for i := range 300 {
			seq := uint16(65400 + i)
			got, err := peer.DecryptRTP(nil, mustSeal(t, seal, seq), nil)
			if err != nil || !bytes.Equal(got, rtp(seq, 160)) {
				t.Fatalf("pion DecryptRTP(seq %d) = %x, %v", seq, got, err)
			}
		}
		for range 3 {
			ctl, err := seal.SealRTCP(make([]byte, 0, 100), rtcp())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := peer.DecryptRTCP(nil, ctl, nil); err != nil || !bytes.Equal(got, rtcp()) {
				t.Fatalf("pion DecryptRTCP = %x, %v", got, err)
			}
		}
	})
}

// Pion seals, ours opens; CSRCs and a header extension included.
func TestInteropFromPion(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		_, open := pair(t, s)
		peer := pion(t, s)
		for i := range 300 {
			seq := uint16(65400 + i)
			plain := rtp(seq, 160)
			if i%3 == 0 {
				plain = withExtension(t, seq)
			}
			enc, err := peer.EncryptRTP(nil, plain, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := open.OpenRTP(make([]byte, 0, 300), enc); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("OpenRTP(seq %d) = %x, %v, want %x", seq, got, err, plain)
			}
		}
		for range 3 {
			enc, err := peer.EncryptRTCP(nil, rtcp(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := open.OpenRTCP(make([]byte, 0, 100), enc); err != nil || !bytes.Equal(got, rtcp()) {
				t.Fatalf("OpenRTCP = %x, %v", got, err)
			}
		}
	})
}

func withExtension(t *testing.T, seq uint16) []byte {
	t.Helper()
	p := pionrtp.Packet{Header: pionrtp.Header{Version: 2, SequenceNumber: seq, SSRC: 0xcafe, CSRC: []uint32{1, 2}}, Payload: []byte("payload")}
	if err := p.Header.SetExtension(1, []byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
