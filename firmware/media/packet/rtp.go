package packet

import (
	"encoding/binary"
	"fmt"
)

// Packet is a received RTP packet; Payload points into the bytes it was read
// from.
type Packet struct {
	Marker      bool
	PayloadType uint8
	Seq         uint16
	Timestamp   uint32
	SSRC        uint32
	Payload     []byte
}

// Parse reads one RTP packet. It keeps b in Payload; it accepts and drops
// CSRCs, a header extension and padding (RFC 3550 5.1, 5.3.1).
func Parse(b []byte) (Packet, error) {
	if len(b) < HeaderSize || b[0]>>6 != 2 {
		return Packet{}, fmt.Errorf("%d bytes: %w", len(b), ErrMalformed)
	}
	n := HeaderSize + 4*int(b[0]&0xf)
	if b[0]&0x10 != 0 {
		if len(b) < n+4 {
			return Packet{}, fmt.Errorf("header extension: %w", ErrMalformed)
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(b[n+2:]))
	}
	end := len(b)
	if b[0]&0x20 != 0 {
		pad := int(b[end-1])
		if pad == 0 {
			return Packet{}, fmt.Errorf("padding of zero bytes: %w", ErrMalformed)
		}
		end -= pad
	}
	if n > end {
		return Packet{}, fmt.Errorf("header of %d bytes: %w", n, ErrMalformed)
	}
	return Packet{
		Marker:      b[1]&0x80 != 0,
		PayloadType: b[1] & 0x7f,
		Seq:         binary.BigEndian.Uint16(b[2:]),
		Timestamp:   binary.BigEndian.Uint32(b[4:]),
		SSRC:        binary.BigEndian.Uint32(b[8:]),
		Payload:     b[n:end:end],
	}, nil
}

// Sender numbers the packets of one outgoing stream. Make it with [NewSender].
type Sender struct {
	payloadType uint8
	ssrc        uint32
	seq         uint16
	timestamp   uint32
	marker      bool
	packets     uint32
	octets      uint32
}

// NewSender starts a stream. seq and timestamp should be random (RFC 3550
// 5.1); seq below 2^15 keeps the first rollover away from the first packets
// (RFC 3711 3.3.1). payloadType must not collide with RTCP (RFC 5761 4).
func NewSender(payloadType uint8, ssrc uint32, seq uint16, timestamp uint32) (*Sender, error) {
	if payloadType > 127 || payloadType >= 64 && payloadType <= 95 {
		return nil, fmt.Errorf("payload type %d: %w", payloadType, ErrConfig)
	}
	return &Sender{payloadType: payloadType, ssrc: ssrc, seq: seq, timestamp: timestamp, marker: true}, nil
}

// Next writes the header of the next packet into dst, which must have
// HeaderSize bytes, for a payload of n bytes that lasts ticks of the RTP clock.
func (s *Sender) Next(dst []byte, n int, ticks uint32) error {
	if len(dst) < HeaderSize {
		return fmt.Errorf("header into %d bytes: %w", len(dst), ErrMalformed)
	}
	dst[0], dst[1] = 0x80, s.payloadType
	if s.marker {
		dst[1] |= 0x80 // first packet of a talkspurt, RFC 3551 4.1
	}
	binary.BigEndian.PutUint16(dst[2:], s.seq)
	binary.BigEndian.PutUint32(dst[4:], s.timestamp)
	binary.BigEndian.PutUint32(dst[8:], s.ssrc)
	s.seq++
	s.timestamp += ticks
	s.marker = false
	s.packets++
	s.octets += uint32(n)
	return nil
}

// Skip lets ticks pass without a packet, as on hold; the next one has the
// marker bit.
func (s *Sender) Skip(ticks uint32) {
	s.timestamp += ticks
	s.marker = true
}

// Packets is the number of headers written.
func (s *Sender) Packets() uint64 { return uint64(s.packets) }
