package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Traffic is what a capture of the segment shows of calls.
type Traffic struct {
	ClearSIP  int     // frames that tshark dissects as SIP, or that contain "SIP/2.0"
	TLS       int     // TLS records to or from the call server
	Media     int     // UDP packets between phones with an RTP header
	Bytes     int     // of their payload
	ChiSquare float64 // of the payload's byte values: about 255 when encrypted
}

// String says it in one line.
func (t Traffic) String() string {
	return fmt.Sprintf("%d frames of SIP in clear, %d TLS records, %d media packets whose payload looks random (chi-square %.0f, expected 255)",
		t.ClearSIP, t.TLS, t.Media, t.ChiSquare)
}

// Payload bytes of encrypted media are uniform: their chi-square over 256
// values has mean 255 and standard deviation 22.6. The limit is eight standard
// deviations away; speech in any of our codecs is thousands away.
const (
	chiSquareLimit = 255 + 8*22.6
	fewestMedia    = 200 // packets: less than this proves nothing
)

// Check says what is wrong with the traffic of a finished call.
func (t Traffic) Check() error {
	switch {
	case t.ClearSIP > 0:
		return fmt.Errorf("%d frames carry SIP in clear", t.ClearSIP)
	case t.TLS == 0:
		return errors.New("no TLS with the call server was captured: the capture proves nothing")
	case t.Media < fewestMedia:
		return fmt.Errorf("only %d media packets were captured: the capture proves nothing", t.Media)
	case t.ChiSquare > chiSquareLimit:
		return fmt.Errorf("media payload is not random (chi-square %.0f, at most %.0f): it is not encrypted", t.ChiSquare, chiSquareLimit)
	}
	return nil
}

// ReadCapture examines everything that the segment carried so far.
func (w *World) ReadCapture(ctx context.Context) (Traffic, error) {
	return ReadCapture(ctx, w.Capture())
}

// ReadCapture examines a pcap file with tshark.
func ReadCapture(ctx context.Context, path string) (Traffic, error) {
	var t Traffic
	for _, q := range []struct {
		count  *int
		filter string
	}{
		{&t.ClearSIP, `sip or frame contains "SIP/2.0"`},
		{&t.TLS, `tls and tcp.port == 5061`},
	} {
		lines, err := tshark(ctx, path, q.filter, "frame.number")
		if err != nil {
			return t, err
		}
		*q.count = len(lines)
	}
	lines, err := tshark(ctx, path, "udp and not dns and not dhcp", "udp.payload")
	if err != nil {
		return t, err
	}
	return t, t.media(lines)
}

func tshark(ctx context.Context, path, filter, field string) ([]string, error) {
	// The segment may still be writing its last frame: a cut short end is not an error here.
	out, err := Run(ctx, "tshark", "-n", "-r", path, "-o", "tcp.desegment_tcp_streams:TRUE", "-Y", filter, "-T", "fields", "-e", field)
	if err != nil && !strings.Contains(err.Error(), "cut short") {
		return nil, err
	}
	var lines []string
	scan := bufio.NewScanner(bytes.NewReader(out))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		lines = append(lines, scan.Text())
	}
	return lines, scan.Err()
}

const (
	rtpHeader  = 12
	rtpVersion = 2 << 6 // in the first byte (RFC 3550 section 5.1)
)

// media counts RTP packets and the distribution of their payload bytes. RTCP
// (payload types 64 to 95 of the second byte, RFC 5761) is passed over.
func (t *Traffic) media(payloads []string) error {
	var histogram [256]int
	for _, text := range payloads {
		packet, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil {
			return fmt.Errorf("tshark printed payload %s: %w", strconv.Quote(text[:min(20, len(text))]), err)
		}
		if len(packet) <= rtpHeader || packet[0]&0xc0 != rtpVersion || packet[1]&0x7f >= 64 && packet[1]&0x7f < 96 {
			continue
		}
		t.Media++
		for _, b := range packet[rtpHeader:] {
			histogram[b]++
			t.Bytes++
		}
	}
	expected := float64(t.Bytes) / 256
	if expected > 0 {
		for _, n := range histogram {
			diff := float64(n) - expected
			t.ChiSquare += diff * diff / expected
		}
	}
	return nil
}
