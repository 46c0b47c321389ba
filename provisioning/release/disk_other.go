//go:build !linux

package release

import "errors"

func (r *Repository) lock() (func(), error) {
	return nil, errors.New("publishing needs Linux")
}
