package media

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ringfence/firmware/media/jitter"
	"ringfence/firmware/media/packet"
	"ringfence/firmware/media/secure"
	"ringfence/hal/audio"
)

// maxDatagram bounds what is received; longer ones are cut and then fail
// authentication.
const maxDatagram = 1500

// Session is one call. Make it with [NewSession] and Run it once. SetMute,
// SetHold and Stats are safe for concurrent use.
type Session struct {
	p      Params
	seal   *secure.Sealer
	open   *secure.Opener
	sender *packet.Sender
	recv   *packet.Receiver
	buffer *jitter.Buffer
	gaps   *jitter.Concealer
	codec  codec
	cname  string
	mute   atomic.Bool
	hold   atomic.Bool

	sock     *socket
	capture  audio.Capture
	playback audio.Playback
	peer     netip.AddrPort
	alive    time.Time // of the last authentic packet
	nextRTCP time.Time

	pcm  [frameLength]int16
	in   [maxDatagram]byte
	out  [packet.HeaderSize + frameBytes + secure.Overhead]byte
	rtcp [packet.MaxRTCP + secure.Overhead]byte

	now Stats // the loop's own
	mu  sync.Mutex
	pub Stats // what Stats returns
}

// NewSession checks p and prepares everything that needs memory. The keys are
// derived here and not kept.
func NewSession(p Params) (*Session, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if p.Timeout == 0 {
		p.Timeout = defaultLost
	}
	s := &Session{recv: packet.NewReceiver(clockRate), codec: newCodec(p.Codec)}
	var err error
	if s.seal, err = secure.NewSealer(p.Suite, p.LocalKey, p.SSRC); err != nil {
		return nil, fmt.Errorf("local key: %w", err)
	}
	if s.open, err = secure.NewOpener(p.Suite, p.RemoteKey); err != nil {
		return nil, fmt.Errorf("remote key: %w", err)
	}
	p.LocalKey, p.RemoteKey = nil, nil
	s.p = p
	s.mute.Store(p.Mute)
	s.hold.Store(p.Hold)
	if s.buffer, err = jitter.New(jitter.Config{FrameTicks: frameTicks, FrameBytes: frameBytes, Initial: int((p.Delay + frameTime - 1) / frameTime)}); err != nil {
		return nil, err
	}
	if s.gaps, err = jitter.NewConcealer(deviceRate); err != nil {
		return nil, err
	}
	return s, s.randomize()
}

// randomize draws what RFC 3550 5.1 and RFC 7022 4.2 want random. The sequence
// number starts in the lower half (RFC 3711 3.3.1).
func (s *Session) randomize() error {
	var b [18]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	s.cname = hex.EncodeToString(b[6:])
	var err error
	s.sender, err = packet.NewSender(s.p.PayloadType, s.p.SSRC, binary.BigEndian.Uint16(b[0:])>>1, binary.BigEndian.Uint32(b[2:]))
	return err
}

// SetMute sends silence in place of the microphone. Privacy does not rest on
// it: init closes the codec's switch.
func (s *Session) SetMute(on bool) { s.mute.Store(on) }

// SetHold sends nothing but RTCP and plays silence.
func (s *Session) SetHold(on bool) { s.hold.Store(on) }

// Stats is a snapshot, at most one period old.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pub
}

// Run makes a session and runs it to its end.
func Run(ctx context.Context, p Params, conn *net.UDPConn, capture audio.Capture, playback audio.Playback) (Stats, error) {
	s, err := NewSession(p)
	if err != nil {
		return Stats{}, err
	}
	return s.Run(ctx, conn, capture, playback)
}

// Run is the call. It ends with nil when ctx ends (after an RTCP BYE), with
// ErrMediaLost when nothing authentic came for Params.Timeout, and with the
// device's error when a device is gone. The caller closes conn and devices.
func (s *Session) Run(ctx context.Context, conn *net.UDPConn, capture audio.Capture, playback audio.Playback) (Stats, error) {
	if err := s.attach(conn, capture, playback); err != nil {
		return Stats{}, err
	}
	err := s.loop(ctx)
	s.report(time.Now(), true)
	s.publish()
	return s.Stats(), err
}

func (s *Session) attach(conn *net.UDPConn, capture audio.Capture, playback audio.Playback) error {
	if err := checkDevice("capture", capture.Format()); err != nil {
		return err
	}
	if err := checkDevice("playback", playback.Format()); err != nil {
		return err
	}
	var err error
	if s.sock, err = newSocket(conn); err != nil {
		return err
	}
	s.capture, s.playback, s.peer = capture, playback, s.p.Remote
	s.alive = time.Now()
	s.nextRTCP = s.alive.Add(rtcpEvery / 2) // RFC 3550 6.2: the first after half
	return s.sock.peer(s.peer)
}
