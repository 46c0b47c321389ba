package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge reports that a message exceeds the bound of its decoder.
var ErrTooLarge = errors.New("message is larger than its limit")

// DecodeStrict decodes exactly one JSON value of at most limit bytes into v.
// Unknown fields, trailing data and oversized input are errors.
func DecodeStrict(raw []byte, limit int, v any) error {
	if len(raw) > limit {
		return fmt.Errorf("%d bytes, at most %d: %w", len(raw), limit, ErrTooLarge)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	return nil
}
