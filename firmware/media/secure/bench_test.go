package secure

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// packets seals and opens n packets of 160 bytes, replay window included.
type packets func(n int)

// contenders are we, and pion in its plain use (buffers reused, header parsed
// by the library) and with a caller-owned header ("pion-reused").
func contenders(b *testing.B, s Suite) (names []string, runs []packets) {
	return []string{"ours", "pion", "pion-reused"},
		[]packets{ours(b, s), pions(b, s, nil), pions(b, s, &pionrtp.Header{})}
}

func suiteName(s Suite) string {
	return map[Suite]string{AEADAES256GCM: "gcm256", AESCM128HMACSHA1: "cm80"}[s]
}

// BenchmarkSealOpen is time and allocations per packet, by contender and suite.
func BenchmarkSealOpen(b *testing.B) {
	for _, s := range suites() {
		names, runs := contenders(b, s)
		for i, name := range names {
			b.Run(name+"/"+suiteName(s), func(b *testing.B) {
				b.ReportAllocs()
				runs[i](b.N)
			})
		}
	}
}

// BenchmarkSealOpenRatio lets the contenders take turns, so that the ratios
// hold on a busy machine: x-NAME is our time over NAME's, NAME-ns the time per
// packet. stdlib is bare AES-256-GCM of crypto/cipher: the floor of the suite.
func BenchmarkSealOpenRatio(b *testing.B) {
	const turn = 500 // packets: a tenth of a millisecond
	for _, s := range suites() {
		b.Run(suiteName(s), func(b *testing.B) {
			names, runs := contenders(b, s)
			if s == AEADAES256GCM {
				names, runs = append(names, "stdlib"), append(runs, stdlib(b))
			}
			ns := make([][]float64, len(names))
			for b.Loop() {
				for i, run := range runs {
					begin := time.Now()
					run(turn)
					ns[i] = append(ns[i], float64(time.Since(begin).Nanoseconds())/turn)
				}
			}
			for i, name := range names {
				slices.Sort(ns[i])
				median := ns[i][len(ns[i])/2]
				b.ReportMetric(median, name+"-ns")
				if i > 0 {
					b.ReportMetric(ns[0][len(ns[0])/2]/median, "x-"+name)
				}
			}
			b.ReportMetric(0, "ns/op") // of all turns together
		})
	}
}

func ours(b *testing.B, s Suite) packets {
	seal, open := pair(b, s)
	pkt, enc, dec := rtp(0, 160), make([]byte, 0, 300), make([]byte, 0, 300)
	seq := uint16(0)
	return func(n int) {
		for range n {
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
}

func pions(b *testing.B, s Suite, h *pionrtp.Header) packets {
	seal, open := pion(b, s), pion(b, s, srtp.SRTPReplayProtection(64))
	pkt, enc, dec := rtp(0, 160), make([]byte, 0, 300), make([]byte, 0, 300)
	seq := uint16(0)
	if h != nil {
		if _, err := h.Unmarshal(pkt); err != nil {
			b.Fatal(err)
		}
	}
	return func(n int) {
		for range n {
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
}

func stdlib(b *testing.B) packets {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	pkt, enc, dec, nonce := rtp(0, 160), make([]byte, 0, 300), make([]byte, 0, 300), make([]byte, 12)
	count := uint32(0)
	return func(n int) {
		for range n {
			count++
			binary.BigEndian.PutUint32(nonce[8:], count)
			if _, err := aead.Open(dec, nonce, aead.Seal(enc, nonce, pkt[12:], pkt[:12]), pkt[:12]); err != nil {
				b.Fatal(err)
			}
		}
	}
}
