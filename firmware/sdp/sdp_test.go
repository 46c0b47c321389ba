package sdp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"ringfence/provisioning/wire/lock"
)

var (
	alice  = netip.MustParseAddrPort("10.77.0.11:20000")
	bob    = netip.MustParseAddrPort("10.77.0.12:20010")
	strict = Policy{Codecs: []lock.Codec{lock.G722, lock.PCMU, lock.PCMA}, Suites: []lock.Suite{lock.AEADAES256GCM}}
	both   = Policy{Codecs: []lock.Codec{lock.PCMA}, Suites: []lock.Suite{lock.AEADAES256GCM, lock.AESCM128HMACSHA1}}
)

func inline(n int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, n))
}

// good is a peer's offer of its own; each refusal test changes one thing.
func good() string {
	return "v=0\r\no=x 1 1 IN IP4 10.77.0.9\r\ns=-\r\nc=IN IP4 10.77.0.9\r\nt=0 0\r\nm=audio 30000 RTP/SAVP 9 0\r\n" +
		"a=crypto:1 AEAD_AES_256_GCM inline:" + inline(44) + "\r\na=rtpmap:9 G722/8000\r\n"
}

func TestOfferAnswerKeysMatchCrosswise(t *testing.T) {
	for _, tc := range []struct {
		name          string
		offer, answer Policy
		codec         lock.Codec
		suite         lock.Suite
	}{
		{"strict both", strict, strict, lock.G722, lock.AEADAES256GCM},
		{"answerer prefers GCM", both, both, lock.PCMA, lock.AEADAES256GCM},
		{"common codec only", strict, both, lock.PCMA, lock.AEADAES256GCM},
		{"only AES_CM", Policy{strict.Codecs, []lock.Suite{lock.AESCM128HMACSHA1}}, both, lock.PCMA, lock.AESCM128HMACSHA1},
	} {
		o, err := NewOffer(alice, tc.offer, 7)
		if err != nil {
			t.Fatal(err)
		}
		raw, b, err := Answer(o.Bytes(), bob, tc.answer, 9)
		if err != nil {
			t.Fatalf("%s: Answer = %v", tc.name, err)
		}
		a, err := o.Accept(raw)
		if err != nil {
			t.Fatalf("%s: Accept = %v", tc.name, err)
		}
		if !bytes.Equal(a.LocalKey, b.RemoteKey) || !bytes.Equal(b.LocalKey, a.RemoteKey) || bytes.Equal(a.LocalKey, b.LocalKey) {
			t.Errorf("%s: keys do not match crosswise", tc.name)
		}
		if a.Codec != tc.codec || b.Codec != tc.codec || a.Suite != tc.suite || b.Suite != tc.suite || a.Remote != bob || b.Remote != alice || !a.RTCPMux {
			t.Errorf("%s: streams %+v and %+v", tc.name, a, b)
		}
	}
}

func TestOfferRefused(t *testing.T) {
	for _, tc := range []struct {
		name, from, to string
		want           error
	}{
		{"clear text", "RTP/SAVP", "RTP/AVP", ErrClear},
		{"opportunistic (RFC 8643)", "RTP/SAVP", "RTP/AVP", ErrClear},
		{"NULL cipher", "AEAD_AES_256_GCM", "NULL_HMAC_SHA1_80", ErrNoSuite},
		{"short key", inline(44), inline(43), ErrNoSuite},
		{"long key", inline(44), inline(45), ErrNoSuite},
		{"suite not in policy", "AEAD_AES_256_GCM inline:" + inline(44), "AES_CM_128_HMAC_SHA1_80 inline:" + inline(30), ErrNoSuite},
		{"unencrypted SRTP parameter", inline(44), inline(44) + " UNENCRYPTED_SRTP", ErrNoSuite},
		{"unauthenticated SRTP parameter", inline(44), inline(44) + " UNAUTHENTICATED_SRTP", ErrNoSuite},
		{"MKI", inline(44), inline(44) + "|2^31|1:1", ErrNoSuite},
		{"short lifetime", inline(44), inline(44) + "|2^10", ErrNoSuite},
		{"no crypto line", "a=crypto", "a=cripto", ErrNoSuite},
		{"codec", "9 0\r\n", "18\r\n", ErrNoCodec},
		{"codec renamed", "G722/8000", "G722/16000", nil},
		{"host name", "c=IN IP4 10.77.0.9", "c=IN IP4 evil.example", ErrAddress},
		{"multicast", "c=IN IP4 10.77.0.9", "c=IN IP4 224.1.1.1", ErrAddress},
		{"unspecified", "c=IN IP4 10.77.0.9", "c=IN IP4 0.0.0.0", ErrAddress},
		{"system port", "30000", "53", ErrAddress},
		{"format", " 9 0\r\n", " 9 0x\r\n", ErrMalformed},
		{"garbage", "v=0", "x=0", ErrMalformed},
		{"maxptime", "a=rtpmap:9", "a=maxptime:10\r\na=rtpmap:9", ErrNoCodec},
		{"doubled tag", "a=rtpmap:9", "a=crypto:1 AEAD_AES_256_GCM inline:" + inline(44) + "\r\na=rtpmap:9", ErrMalformed},
	} {
		offer := strings.Replace(good(), tc.from, tc.to, 1)
		if offer == good() {
			t.Fatalf("%s: nothing replaced", tc.name)
		}
		if _, _, err := Answer([]byte(offer), bob, strict, 1); !errors.Is(err, tc.want) {
			t.Errorf("%s: Answer = %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, _, err := Answer([]byte(good()), bob, strict, 1); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestAnswerRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(o *Offer, s string) string
		want error
	}{
		{"clear", func(_ *Offer, s string) string { return strings.Replace(s, "SAVP", "AVP", 1) }, ErrClear},
		{"declined", func(_ *Offer, s string) string { return strings.Replace(s, "audio 20010", "audio 0", 1) }, ErrClear},
		{"reflected key", func(o *Offer, s string) string {
			i := strings.Index(s, "inline:") + 7
			return s[:i] + base64.StdEncoding.EncodeToString(o.keys[0].key) + s[i+60:]
		}, ErrNoSuite},
		{"tag not offered", func(_ *Offer, s string) string { return strings.Replace(s, "crypto:1", "crypto:5", 1) }, ErrNoSuite},
		{"two streams", func(_ *Offer, s string) string { return s + "m=video 9 RTP/SAVP 99\r\n" }, ErrMalformed},
		{"two crypto lines", func(_ *Offer, s string) string {
			return s + "a=crypto:2 AEAD_AES_256_GCM inline:" + inline(44) + "\r\n"
		}, ErrNoSuite},
	} {
		o, err := NewOffer(alice, strict, 1)
		if err != nil {
			t.Fatal(err)
		}
		raw, _, err := Answer(o.Bytes(), bob, strict, 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Accept([]byte(tc.edit(o, string(raw)))); !errors.Is(err, tc.want) {
			t.Errorf("%s: Accept = %v, want %v", tc.name, err, tc.want)
		}
	}
}

// RFC 3264 section 6: the answer has the offer's m= lines in order.
func TestExtraStreamsAreDeclined(t *testing.T) {
	offer := strings.Replace(good(), "m=audio", "m=video 40000 RTP/AVP 31\r\nm=audio", 1)
	raw, s, err := Answer([]byte(offer), bob, strict, 1)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "m=video 0 RTP/AVP 31\r\nm=audio 20010 RTP/SAVP 9\r\n") {
		t.Errorf("answer %q does not decline the video stream in place", raw)
	}
	if s.RTCPMux {
		t.Error("rtcp-mux agreed although it was not offered")
	}
}

func TestHoldIsReversed(t *testing.T) {
	for in, want := range map[string]Direction{"sendonly": RecvOnly, "recvonly": SendOnly, "inactive": Inactive, "sendrecv": SendRecv} {
		_, s, err := Answer([]byte(good()+"a="+in+"\r\n"), bob, strict, 1)
		if err != nil || s.Direction != want {
			t.Errorf("a=%s: direction %q, %v, want %q", in, s.Direction, err, want)
		}
	}
}

func TestKeyNeverPrints(t *testing.T) {
	k := Key("0123456789")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	out := fmt.Sprintf("%v %s %x %q %+v %#v %d", k, k, k, k, Stream{LocalKey: k}, Stream{LocalKey: k}, k) + log.String()
	for _, leak := range []string{"0123", "3031", "48 49", "MDEy", "0x30"} {
		if strings.Contains(out, leak) {
			t.Errorf("printed key: %q", out)
		}
	}
}

func TestSizeIsBounded(t *testing.T) {
	if _, _, err := Answer([]byte(good()+strings.Repeat("a=x\r\n", MaxSize/5)), bob, strict, 1); !errors.Is(err, ErrMalformed) {
		t.Errorf("oversized offer: %v, want %v", err, ErrMalformed)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(good()))
	o, err := NewOffer(alice, strict, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(o.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		answer, s, err := Answer(raw, bob, both, 1)
		if err != nil {
			return
		}
		if len(s.RemoteKey) != keySize(s.Suite) || bytes.Equal(s.LocalKey, s.RemoteKey) || !strings.Contains(string(answer), "RTP/SAVP") {
			t.Errorf("accepted a stream without proper keys: %+v", s)
		}
		if _, err := parse(answer); err != nil {
			t.Errorf("own answer does not parse: %v\n%q", err, answer)
		}
	})
}
