package media

import (
	"fmt"
	"net/netip"
	"time"

	"ringfence/firmware/media/secure"
	"ringfence/hal/audio"
)

// Codec names an audio codec as in SDP (RFC 3551).
type Codec string

// The codecs of this phone. All have an RTP clock of 8000 Hz and 64 kbit/s.
const (
	G722 Codec = "G722"
	PCMU Codec = "PCMU"
	PCMA Codec = "PCMA"
)

const (
	clockRate   = 8000
	deviceRate  = 16000
	frameTime   = 20 * time.Millisecond
	frameTicks  = 160
	frameBytes  = 160
	frameLength = 320 // samples at the device
	defaultLost = 15 * time.Second
	rtcpEvery   = 5 * time.Second // RFC 3550 6.2: minimum interval
)

// Params is everything the signalling agreed on. It goes to the media process
// as JSON; the keys print as "[secret]".
type Params struct {
	Codec       Codec          `json:"codec"`
	PayloadType uint8          `json:"payload_type"`
	Ptime       time.Duration  `json:"ptime"`  // only 20 ms; 0 = 20 ms
	Remote      netip.AddrPort `json:"remote"` // the peer's RTP and RTCP address
	Suite       secure.Suite   `json:"suite"`
	LocalKey    secure.Key     `json:"local_key"`  // master key and salt of what we send
	RemoteKey   secure.Key     `json:"remote_key"` // of what the peer sends
	SSRC        uint32         `json:"ssrc"`       // ours, random
	Timeout     time.Duration  `json:"timeout"`    // without an authentic packet; 0 = 15 s
	Delay       time.Duration  `json:"delay"`      // initial jitter delay, up to 320 ms; 0 = 60 ms
	Hold        bool           `json:"hold"`       // start on hold
	Mute        bool           `json:"mute"`       // start muted
}

// Validate names the first field that is wrong. The key sizes are checked where
// the keys are used, by NewSession.
func (p Params) Validate() error {
	switch {
	case p.Codec != G722 && p.Codec != PCMU && p.Codec != PCMA:
		return fmt.Errorf("codec %q: %w", string(p.Codec), ErrParams)
	case p.Ptime != 0 && p.Ptime != frameTime:
		return fmt.Errorf("ptime %v: %w", p.Ptime, ErrParams)
	case !p.Remote.IsValid() || p.Remote.Port() == 0 || p.Remote.Addr().IsUnspecified() || p.Remote.Addr().IsMulticast():
		return fmt.Errorf("remote %v: %w", p.Remote, ErrParams)
	case p.Timeout < 0 || p.Timeout > 0 && p.Timeout < frameTime:
		return fmt.Errorf("timeout %v: %w", p.Timeout, ErrParams)
	case p.Delay < 0 || p.Delay > 320*time.Millisecond:
		return fmt.Errorf("delay %v: %w", p.Delay, ErrParams)
	case string(p.LocalKey) == string(p.RemoteKey):
		return fmt.Errorf("both directions have one key: %w", ErrParams)
	}
	return nil
}

// checkDevice refuses a device of another format: there is no resampler for it.
func checkDevice(name string, f audio.Format) error {
	if f.Rate != deviceRate || f.Channels != 1 || f.PeriodFrames != frameLength {
		return fmt.Errorf("%s device is %+v: %w", name, f, ErrParams)
	}
	return nil
}
