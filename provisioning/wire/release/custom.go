package release

import (
	"fmt"

	"ringfence/provisioning/wire"
)

// MaxCustom bounds the custom field of an image, in bytes.
const MaxCustom = 16 << 10

// ParseCustom decodes the custom field of an image strictly.
func ParseCustom(raw []byte) (*Custom, error) {
	c := new(Custom)
	if err := wire.DecodeStrict(raw, MaxCustom, c); err != nil {
		return nil, fmt.Errorf("decode custom field: %w", err)
	}
	return c, nil
}
