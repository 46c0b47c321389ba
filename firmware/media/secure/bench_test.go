package secure

import (
	"encoding/binary"
	"testing"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// BenchmarkSealOpen is one packet of 160 bytes sealed and opened, replay window
// included, named {ours,pion,pion-reused}/{gcm256,cm80}. pion is its plain use
// (buffers reused, header parsed by the library); pion-reused also hands it a
// caller-owned header.
func BenchmarkSealOpen(b *testing.B) {
	names := map[Suite]string{AEADAES256GCM: "gcm256", AESCM128HMACSHA1: "cm80"}
	for _, who := range []struct {
		name string
		run  func(*testing.B, Suite)
	}{
		{"ours", benchOurs},
		{"pion", func(b *testing.B, s Suite) { benchPion(b, s, nil) }},
		{"pion-reused", func(b *testing.B, s Suite) { benchPion(b, s, &pionrtp.Header{}) }},
	} {
		for _, s := range suites() {
			b.Run(who.name+"/"+names[s], func(b *testing.B) { who.run(b, s) })
		}
	}
}

func benchOurs(b *testing.B, s Suite) {
	seal, open := pair(b, s)
	pkt, enc, dec := rtp(0, 160), make([]byte, 0, 300), make([]byte, 0, 300)
	seq := uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		binary.BigEndian.PutUint16(pkt[2:], seq)
		out, err := seal.SealRTP(enc, pkt)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := open.OpenRTP(dec, out); err != nil {
			b.Fatal(err)
		}
	}
}

func benchPion(b *testing.B, s Suite, h *pionrtp.Header) {
	seal, open := pion(b, s), pion(b, s, srtp.SRTPReplayProtection(64))
	pkt, enc, dec := rtp(0, 160), make([]byte, 0, 300), make([]byte, 0, 300)
	seq := uint16(0)
	if h != nil {
		if _, err := h.Unmarshal(pkt); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		seq++
		binary.BigEndian.PutUint16(pkt[2:], seq)
		out, err := seal.EncryptRTP(enc, pkt, h)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := open.DecryptRTP(dec, out, h); err != nil {
			b.Fatal(err)
		}
	}
}
