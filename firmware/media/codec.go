package media

import (
	"ringfence/firmware/media/g711"
	"ringfence/firmware/media/g722"
)

// codec turns one 20 ms period of the device into one payload and back.
type codec interface {
	encode(dst []byte, pcm []int16) (int, error)
	decode(dst []int16, payload []byte) (int, error)
}

func newCodec(c Codec) codec {
	switch c {
	case PCMA:
		return &narrow{enc: g711.EncodeA, dec: g711.DecodeA, taps: halfBand()}
	case PCMU:
		return &narrow{enc: g711.EncodeU, dec: g711.DecodeU, taps: halfBand()}
	}
	return &wide{g722.NewEncoder(), g722.NewDecoder()}
}

type wide struct {
	enc *g722.Encoder
	dec *g722.Decoder
}

func (w *wide) encode(dst []byte, pcm []int16) (int, error)     { return w.enc.Encode(dst, pcm) }
func (w *wide) decode(dst []int16, payload []byte) (int, error) { return w.dec.Decode(dst, payload) }

// narrow is G.711 behind a 2:1 resampler each way.
type narrow struct {
	enc    func([]byte, []int16) (int, error)
	dec    func([]int16, []byte) (int, error)
	taps   [halfTaps]int32
	down   [4*halfTaps - 2 + frameLength]int16
	up     [2*halfTaps - 1 + frameLength/2]int16
	eight  [frameLength / 2]int16
	eight2 [frameLength / 2]int16
}

func (n *narrow) encode(dst []byte, pcm []int16) (int, error) {
	n.decimate(pcm)
	return n.enc(dst, n.eight[:])
}

func (n *narrow) decode(dst []int16, payload []byte) (int, error) {
	if _, err := n.dec(n.eight2[:], payload); err != nil {
		return 0, err
	}
	n.interpolate(dst)
	return frameLength, nil
}
