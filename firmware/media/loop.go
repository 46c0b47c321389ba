package media

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ringfence/firmware/media/jitter"
	"ringfence/firmware/media/packet"
	"ringfence/firmware/media/secure"
	"ringfence/hal/audio"
)

const (
	drainLimit = 32  // datagrams per period: a flood cannot starve the sound
	quiet      = 150 // mean amplitude below which a frame may be left out
)

// loop runs one step for each capture period until something ends the call.
func (s *Session) loop(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.step(); err != nil {
			return err
		}
	}
	return nil
}

// step is everything that happens in one period.
func (s *Session) step() error {
	if err := s.record(); err != nil {
		return err
	}
	now := time.Now()
	s.transmit()
	s.drain(now)
	if err := s.play(); err != nil {
		return err
	}
	if !now.Before(s.nextRTCP) {
		s.report(now, false)
		s.nextRTCP = now.Add(rtcpEvery)
	}
	s.now.Frames++
	s.publish()
	if now.Sub(s.alive) > s.p.Timeout {
		return ErrMediaLost
	}
	return nil
}

// record waits for the microphone's period. A lost period is silence: the
// clock goes on.
func (s *Session) record() error {
	err := s.capture.Read(s.pcm[:])
	switch {
	case errors.Is(err, audio.ErrXrun), errors.Is(err, audio.ErrShort):
		clear(s.pcm[:])
	case err != nil:
		return fmt.Errorf("read microphone: %w", err)
	case s.mute.Load():
		clear(s.pcm[:])
	}
	return nil
}

// transmit encodes, seals and sends the recorded period. A packet that the
// kernel does not take is lost like any other.
func (s *Session) transmit() {
	if s.hold.Load() {
		s.sender.Skip(frameTicks)
		return
	}
	n, err := s.codec.encode(s.out[packet.HeaderSize:packet.HeaderSize+frameBytes], s.pcm[:])
	if err != nil {
		return // buffers are of fixed size: cannot happen
	}
	if s.sender.Next(s.out[:], n, frameTicks) != nil {
		return
	}
	pkt := s.out[:packet.HeaderSize+n]
	if pkt, err = s.seal.SealRTP(pkt[:0], pkt); err != nil {
		return // key exhausted after 2^48 packets: silence
	}
	if s.sock.send(pkt) {
		s.now.Sent++
	}
}

// drain takes what the network brought since the last period.
func (s *Session) drain(now time.Time) {
	for range drainLimit {
		n, from, ok := s.sock.recv(s.in[:])
		if !ok {
			return
		}
		pkt := s.in[:n]
		if packet.IsRTCP(pkt) {
			s.control(pkt, from, now)
		} else {
			s.sound(pkt, from, now)
		}
	}
}

func (s *Session) sound(pkt []byte, from netip.AddrPort, now time.Time) {
	plain, err := s.open.OpenRTP(pkt[:0], pkt)
	if err != nil {
		s.reject(err)
		return
	}
	s.authentic(from, now)
	p, err := packet.Parse(plain)
	if err != nil || p.PayloadType != s.p.PayloadType {
		s.now.Malformed++
		return
	}
	s.recv.Update(p, now)
	s.buffer.Push(p.Timestamp, p.Payload)
}

func (s *Session) control(pkt []byte, from netip.AddrPort, now time.Time) {
	plain, err := s.open.OpenRTCP(pkt[:0], pkt)
	if err != nil {
		s.reject(err)
		return
	}
	s.authentic(from, now)
	r, err := packet.ReadCompound(plain, s.sender, s.recv, now)
	if err != nil {
		s.now.Malformed++
		return
	}
	if r.RoundTrip > 0 {
		s.now.RoundTrip = r.RoundTrip.Seconds() * 1000
	}
	s.now.PeerLoss = float64(r.Lost) / 256
}

func (s *Session) reject(err error) {
	if errors.Is(err, secure.ErrMalformed) {
		s.now.Malformed++
		return
	}
	s.now.AuthFail++
}

// authentic follows the peer's address, which is believed only now.
func (s *Session) authentic(from netip.AddrPort, now time.Time) {
	s.alive = now
	if from != s.peer && s.sock.peer(from) == nil {
		s.peer = from
	}
}

// play gives the earpiece its period.
func (s *Session) play() error {
	s.fetch()
	if s.buffer.Surplus() && s.isQuiet() {
		s.buffer.Shrunk()
		s.fetch() // in place of the quiet frame
	}
	if s.hold.Load() {
		clear(s.pcm[:])
	}
	err := s.playback.Write(s.pcm[:])
	if err != nil && !errors.Is(err, audio.ErrXrun) && !errors.Is(err, audio.ErrShort) {
		return fmt.Errorf("write earpiece: %w", err)
	}
	return nil
}

// fetch decodes or conceals one frame into s.pcm, which the encoder is done
// with.
func (s *Session) fetch() {
	payload, kind := s.buffer.Pop()
	switch kind {
	case jitter.Frame:
		if _, err := s.codec.decode(s.pcm[:], payload); err == nil {
			s.gaps.Good(s.pcm[:])
			return
		}
		clear(s.pcm[:])
	case jitter.Lost:
		s.gaps.Conceal(s.pcm[:])
	default:
		clear(s.pcm[:])
	}
}

func (s *Session) isQuiet() bool {
	sum := 0
	for _, v := range s.pcm {
		sum += max(int(v), -int(v))
	}
	return sum < quiet*frameLength
}

// report sends RTCP; bye ends the stream.
func (s *Session) report(now time.Time, bye bool) {
	plain, err := packet.Compound(s.sender, s.recv, s.cname, bye, now)
	if err != nil {
		return // only a CNAME that is too long can do this
	}
	if pkt, err := s.seal.SealRTCP(s.rtcp[:0], plain); err == nil {
		s.sock.send(pkt)
	}
}

// publish makes the snapshot that Stats returns.
func (s *Session) publish() {
	s.now.Received, s.now.Lost = s.recv.Received(), s.recv.Lost()
	s.now.JitterMS = s.recv.Jitter().Seconds() * 1000
	b := s.buffer.Stats()
	s.now.Concealed, s.now.Late = b.Missing, b.Late
	s.now.Xruns = s.capture.Stats().Xruns + s.playback.Stats().Xruns
	s.mu.Lock()
	s.pub = s.now
	s.mu.Unlock()
}
