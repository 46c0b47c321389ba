package speech

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// WriteWAV writes mono 16-bit samples as a WAV file (RIFF, PCM).
func WriteWAV(path string, pcm []int16, rate int) error {
	if rate <= 0 {
		return fmt.Errorf("write %s: rate %d", path, rate)
	}
	size := uint32(len(pcm) * 2)
	b := make([]byte, 0, 44+len(pcm)*2)
	le := binary.LittleEndian
	b = le.AppendUint32(append(b, "RIFF"...), 36+size)
	b = le.AppendUint32(append(b, "WAVEfmt "...), 16)
	b = le.AppendUint16(le.AppendUint16(b, 1), 1) // PCM, one channel
	b = le.AppendUint32(le.AppendUint32(b, uint32(rate)), uint32(rate*2))
	b = le.AppendUint16(le.AppendUint16(b, 2), 16) // bytes per frame, bits
	b = le.AppendUint32(append(b, "data"...), size)
	for _, s := range pcm {
		b = le.AppendUint16(b, uint16(s))
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return nil
}

// ReadWAV reads a mono 16-bit WAV file.
func ReadWAV(path string) (pcm []int16, rate int, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read recording: %w", err)
	}
	if pcm, rate, err = decodeWAV(raw); err != nil {
		return nil, 0, fmt.Errorf("read recording %s: %w", path, err)
	}
	return pcm, rate, nil
}

func decodeWAV(raw []byte) (pcm []int16, rate int, err error) {
	if len(raw) < 12 || string(raw[:4]) != "RIFF" || string(raw[8:12]) != "WAVE" {
		return nil, 0, errors.New("not a WAV file")
	}
	le := binary.LittleEndian
	for rest := raw[12:]; len(rest) >= 8; {
		name, size := string(rest[:4]), int(le.Uint32(rest[4:]))
		// A program that writes to a pipe does not know the size beforehand.
		body := rest[8:min(len(rest), 8+size)]
		switch name {
		case "fmt ":
			if len(body) < 16 || le.Uint16(body) != 1 || le.Uint16(body[2:]) != 1 || le.Uint16(body[14:]) != 16 {
				return nil, 0, errors.New("not mono 16-bit PCM")
			}
			rate = int(le.Uint32(body[4:]))
		case "data":
			if rate <= 0 {
				return nil, 0, errors.New("data before format")
			}
			pcm = make([]int16, len(body)/2)
			for i := range pcm {
				pcm[i] = int16(le.Uint16(body[2*i:]))
			}
			return pcm, rate, nil
		}
		rest = rest[min(len(rest), 8+size+size%2):]
	}
	return nil, 0, errors.New("no data")
}
