// Package media is one call's sound: microphone to network and network to
// earpiece. [Session.Run] is a single loop that the capture device's DMA period
// wakes: it drains the socket without blocking, opens, buffers and plays,
// encodes, seals, sends, and sleeps. Nothing is allocated per frame.
//
// It knows no signalling: addresses, keys and codec come in [Params]. There is
// no clear-text mode. RTP and RTCP share the port (RFC 5761); the peer's address
// follows its packets only after they were authenticated (symmetric RTP,
// RFC 4961). Audio devices run at 16 kHz mono with 20 ms periods.
package media
