package secure

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

func suites() []Suite { return []Suite{AEADAES256GCM, AESCM128HMACSHA1} }

func testKey(t testing.TB, s Suite, seed byte) Key {
	t.Helper()
	n, err := s.KeySize()
	if err != nil {
		t.Fatal(err)
	}
	k := make(Key, n)
	for i := range k {
		k[i] = seed + byte(i)*7
	}
	return k
}

func pair(t testing.TB, s Suite) (*Sealer, *Opener) {
	t.Helper()
	seal, err := NewSealer(s, testKey(t, s, 1), 0xcafe)
	if err != nil {
		t.Fatal(err)
	}
	open, err := NewOpener(s, testKey(t, s, 1))
	if err != nil {
		t.Fatal(err)
	}
	return seal, open
}

func rtp(seq uint16, n int) []byte {
	b := make([]byte, 12+n, 12+n+Overhead)
	b[0] = 0x80
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[8:], 0xcafe)
	for i := range n {
		b[12+i] = byte(i) ^ byte(seq)
	}
	return b
}

func rtcp() []byte {
	return append(make([]byte, 0, 28+Overhead), 0x80, 200, 0, 6, 0, 0, 0xca, 0xfe,
		1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
}

func mustSeal(t testing.TB, s *Sealer, seq uint16) []byte {
	t.Helper()
	out, err := s.SealRTP(make([]byte, 0, 300), rtp(seq, 160))
	if err != nil {
		t.Fatalf("SealRTP(seq %d) = %v", seq, err)
	}
	return out
}

func each(t *testing.T, f func(*testing.T, Suite)) {
	for _, s := range suites() {
		t.Run(string(s), func(t *testing.T) { f(t, s) })
	}
}

func TestConstructorsRefuse(t *testing.T) {
	for _, c := range []struct {
		suite Suite
		n     int
		want  error
	}{
		{AEADAES256GCM, 0, ErrKeySize}, {AEADAES256GCM, 43, ErrKeySize}, {AEADAES256GCM, 45, ErrKeySize}, {AEADAES256GCM, 30, ErrKeySize},
		{AESCM128HMACSHA1, 29, ErrKeySize}, {AESCM128HMACSHA1, 44, ErrKeySize},
		{"NULL_HMAC_SHA1_80", 30, ErrSuite}, {"", 0, ErrSuite},
		{AEADAES256GCM, 44, nil}, {AESCM128HMACSHA1, 30, nil},
	} {
		_, err1 := NewSealer(c.suite, make(Key, c.n), 1)
		_, err2 := NewOpener(c.suite, make(Key, c.n))
		if !errors.Is(err1, c.want) || !errors.Is(err2, c.want) {
			t.Errorf("New(%q, %d bytes) = %v, %v, want %v", c.suite, c.n, err1, err2, c.want)
		}
	}
}

func TestKeyStaysSecret(t *testing.T) {
	k := Key("0123456789")
	for _, verb := range []string{"%v", "%s", "%x", "%q", "%#v", "%d", "%+v"} {
		if got := fmt.Sprintf(verb, k); got != "[secret]" {
			t.Errorf("Sprintf(%q) = %q, want [secret]", verb, got)
		}
	}
	b, err := json.Marshal(k)
	var back Key
	if err != nil || json.Unmarshal(b, &back) != nil || !bytes.Equal(k, back) {
		t.Errorf("JSON round trip of a key failed: %v", err)
	}
}

func TestReplayWindow(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		seal, open := pair(t, s)
		pkts := make([][]byte, 200)
		for i := range pkts {
			pkts[i] = mustSeal(t, seal, uint16(1000+i))
		}
		for _, c := range []struct {
			i    int
			want error
		}{{10, nil}, {10, ErrReplay}, {12, nil}, {11, nil}, {11, ErrReplay}, {100, nil}, {37, nil}, {37, ErrReplay}, {36, ErrReplay}, {199, nil}, {100, ErrReplay}} {
			if _, err := open.OpenRTP(make([]byte, 0, 300), pkts[c.i]); !errors.Is(err, c.want) {
				t.Errorf("OpenRTP(packet %d) = %v, want %v", c.i, err, c.want)
			}
		}
	})
}

// RFC 3711 3.3.1: the rollover counter survives loss and reordering around the
// wrap of the sequence number.
func TestRolloverCounter(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		seal, open := pair(t, s)
		var pkts [][]byte
		seq := uint16(65000)
		for range 3000 {
			pkts = append(pkts, mustSeal(t, seal, seq))
			seq += 50 // more than two turns
		}
		for i := 0; i+1 < len(pkts); i += 2 {
			for _, k := range []int{i + 1, i} {
				if got, err := open.OpenRTP(make([]byte, 0, 300), pkts[k]); i > 0 && (err != nil || len(got) != 172) {
					t.Fatalf("OpenRTP(packet %d) = %d bytes, %v", k, len(got), err)
				}
			}
		}
	})
}

func TestSealerNeverReusesAnIndex(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		seal, _ := pair(t, s)
		mustSeal(t, seal, 5)
		for _, seq := range []uint16{5, 4, 5 + 1<<15} {
			if _, err := seal.SealRTP(make([]byte, 0, 300), rtp(seq, 10)); !errors.Is(err, ErrIndex) {
				t.Errorf("SealRTP(seq %d after 5) = %v, want ErrIndex", seq, err)
			}
		}
		p := rtp(6, 10)
		p[11]++
		if _, err := seal.SealRTP(make([]byte, 0, 300), p); !errors.Is(err, ErrSource) {
			t.Errorf("SealRTP(other SSRC) = %v, want ErrSource", err)
		}
		seal.index = maxIndex
		if _, err := seal.SealRTP(make([]byte, 0, 300), rtp(0, 10)); !errors.Is(err, ErrExhausted) {
			t.Errorf("SealRTP(past 2^48) = %v, want ErrExhausted", err)
		}
		seal.rtcp = maxRTCP + 1
		if _, err := seal.SealRTCP(make([]byte, 0, 300), rtcp()); !errors.Is(err, ErrExhausted) {
			t.Errorf("SealRTCP(past 2^31) = %v, want ErrExhausted", err)
		}
	})
}

// Every single changed byte is refused and leaves no trace: the good packet
// still opens.
func TestTampering(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		seal, open := pair(t, s)
		good := mustSeal(t, seal, 7)
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x40
			if _, err := open.OpenRTP(make([]byte, 0, 300), bad); err == nil {
				t.Fatalf("OpenRTP accepted a change of byte %d", i)
			}
		}
		if open.n != 0 {
			t.Errorf("%d sources after forgeries only, want 0", open.n)
		}
		if _, err := open.OpenRTP(make([]byte, 0, 300), good); err != nil {
			t.Errorf("OpenRTP(untouched) = %v", err)
		}
		ctl, err := seal.SealRTCP(make([]byte, 0, 100), rtcp())
		if err != nil {
			t.Fatal(err)
		}
		for i := range ctl {
			bad := bytes.Clone(ctl)
			bad[i] ^= 0x80
			if _, err := open.OpenRTCP(make([]byte, 0, 100), bad); err == nil {
				t.Fatalf("OpenRTCP accepted a change of byte %d", i)
			}
		}
		if _, err := open.OpenRTCP(make([]byte, 0, 100), ctl); err != nil {
			t.Errorf("OpenRTCP(untouched) = %v", err)
		}
		if _, err := open.OpenRTCP(make([]byte, 0, 100), ctl); !errors.Is(err, ErrReplay) {
			t.Errorf("OpenRTCP(again) = %v, want ErrReplay", err)
		}
	})
}

func TestWrongKey(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		seal, _ := pair(t, s)
		open, err := NewOpener(s, testKey(t, s, 2))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open.OpenRTP(make([]byte, 0, 300), mustSeal(t, seal, 1)); !errors.Is(err, ErrAuth) {
			t.Errorf("OpenRTP with another key = %v, want ErrAuth", err)
		}
	})
}

func TestSourcesAreBounded(t *testing.T) {
	_, open := pair(t, AEADAES256GCM)
	for i := range uint32(maxSources + 1) {
		seal, err := NewSealer(AEADAES256GCM, testKey(t, AEADAES256GCM, 1), i)
		if err != nil {
			t.Fatal(err)
		}
		p := rtp(1, 20)
		binary.BigEndian.PutUint32(p[8:], i)
		out, err := seal.SealRTP(make([]byte, 0, 100), p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open.OpenRTP(make([]byte, 0, 100), out); (err != nil) != (i == maxSources) {
			t.Errorf("OpenRTP(source %d) = %v", i, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		_, open := pair(t, s)
		for name, p := range map[string][]byte{
			"empty": {}, "short": make([]byte, 11), "version": append([]byte{0x40}, make([]byte, 60)...),
			"CSRCs": append([]byte{0x8f}, make([]byte, 50)...), "extension": append([]byte{0x90}, make([]byte, 13)...),
			"huge extension": append([]byte{0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, make([]byte, 60)...),
			"no tag":         rtp(1, 5),
		} {
			if _, err := open.OpenRTP(make([]byte, 0, 300), p); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: OpenRTP = %v, want ErrMalformed", name, err)
			}
		}
	})
}

func TestInPlaceAndNoAllocation(t *testing.T) {
	each(t, func(t *testing.T, s Suite) {
		seal, open := pair(t, s)
		buf, want, seq := make([]byte, 0, 300), rtp(0, 160), uint16(0)
		n := testing.AllocsPerRun(200, func() {
			seq++
			pkt := append(buf, want...)
			binary.BigEndian.PutUint16(pkt[2:], seq)
			out, err := seal.SealRTP(pkt[:0], pkt)
			if err != nil {
				t.Fatal(err)
			}
			if out, err = open.OpenRTP(out[:0], out); err != nil || !bytes.Equal(out[4:], want[4:]) {
				t.Fatalf("OpenRTP in place = %x, %v", out, err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations per packet, want 0", n)
		}
	})
}

func FuzzOpen(f *testing.F) {
	for _, s := range suites() {
		seal, _ := pair(f, s)
		f.Add(mustSeal(f, seal, 1))
		c, _ := seal.SealRTCP(make([]byte, 0, 100), rtcp())
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range suites() {
			open, err := NewOpener(s, make(Key, map[Suite]int{AEADAES256GCM: 44, AESCM128HMACSHA1: 30}[s]))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := open.OpenRTP(make([]byte, 0, len(b)), b); err == nil {
				t.Errorf("%s: OpenRTP accepted what nobody sealed", s)
			}
			if _, err := open.OpenRTCP(make([]byte, 0, len(b)), b); err == nil {
				t.Errorf("%s: OpenRTCP accepted what nobody sealed", s)
			}
		}
	})
}

// The window agrees with a plain set for random indices.
func TestWindowAgainstSet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var w window
	seen, top := map[uint64]bool{}, uint64(0)
	for range 20000 {
		i := top + r.Uint64N(80)
		if i >= 70 {
			i -= 70
		}
		want := !seen[i] && (i > top || top-i < windowSize)
		if got := w.fresh(i); got != want {
			t.Fatalf("fresh(%d) = %v, want %v (top %d)", i, got, want, top)
		}
		if want {
			w.accept(i)
			seen[i] = true
			top = max(top, i)
		}
	}
}
