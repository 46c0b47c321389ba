package release

import (
	"crypto/sha256"
	"errors"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

var errShape = errors.New("metadata has an entry that is null or out of range")

func sum(data []byte) []byte {
	digest := sha256.Sum256(data)
	return digest[:]
}

// decodeRoot and decodeTargets refuse nulls that go-tuf would follow.
func decodeRoot(raw []byte) (*metadata.Metadata[metadata.RootType], error) {
	md, err := metadata.Root().FromBytes(raw)
	if err != nil {
		return nil, err
	}
	for _, key := range md.Signed.Keys {
		if key == nil {
			return nil, errShape
		}
	}
	for _, name := range metadata.TOP_LEVEL_ROLE_NAMES {
		if md.Signed.Roles[name] == nil {
			return nil, errShape
		}
	}
	if md.Signed.Version < 1 || !md.Signed.ConsistentSnapshot {
		return nil, errShape
	}
	return md, nil
}

func decodeTargets(raw []byte) (*metadata.Metadata[metadata.TargetsType], error) {
	md, err := metadata.Targets().FromBytes(raw)
	if err != nil {
		return nil, err
	}
	for _, file := range md.Signed.Targets {
		if file == nil || file.Length < 0 || len(file.Hashes["sha256"]) != sha256.Size {
			return nil, errShape
		}
	}
	if d := md.Signed.Delegations; d != nil {
		for _, key := range d.Keys {
			if key == nil {
				return nil, errShape
			}
		}
	}
	if md.Signed.Version < 1 {
		return nil, errShape
	}
	return md, nil
}
