package media

import "fmt"

// Stats is what a call record needs (wire/report.Call has the same names).
type Stats struct {
	Sent      uint64  `json:"sent"`      // RTP packets
	Received  uint64  `json:"received"`  // RTP packets after authentication
	Lost      uint64  `json:"lost"`      // never arrived
	AuthFail  uint64  `json:"auth_fail"` // failed authentication or the replay check
	Malformed uint64  `json:"malformed"` // authentic or not, but no RTP or RTCP of this call
	Concealed uint64  `json:"concealed"` // frames
	Late      uint64  `json:"late"`      // frames that came after their turn
	JitterMS  float64 `json:"jitter_ms"` // RFC 3550 interarrival jitter
	RoundTrip float64 `json:"rtt_ms"`    // from RTCP, 0 when unknown
	PeerLoss  float64 `json:"peer_loss"` // fraction of ours that the peer missed, from RTCP
	Xruns     uint64  `json:"xruns"`     // of both devices
	Frames    uint64  `json:"frames"`    // periods of the loop
}

// String is one line for the log.
func (s Stats) String() string {
	return fmt.Sprintf("sent=%d received=%d lost=%d auth_fail=%d concealed=%d late=%d jitter_ms=%.1f rtt_ms=%.1f xruns=%d",
		s.Sent, s.Received, s.Lost, s.AuthFail, s.Concealed, s.Late, s.JitterMS, s.RoundTrip, s.Xruns)
}
