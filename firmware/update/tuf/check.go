package tuf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// go-tuf dereferences entries that a signed file may hold as null. The checks
// here refuse such files, and versions of the format that nobody has read,
// before go-tuf follows them: one stolen online key must not stop a phone.

var errShape = errors.New("metadata has an entry that is null or out of range")

func checkCommon(spec string, version int64) error {
	if !strings.HasPrefix(spec, "1.") {
		return fmt.Errorf("metadata of specification %q, want 1.x", spec)
	}
	if version < 1 {
		return errShape
	}
	return nil
}

func checkRoot(data []byte) error {
	md, err := metadata.Root().FromBytes(data)
	if err != nil {
		return err
	}
	for _, key := range md.Signed.Keys {
		if key == nil {
			return errShape
		}
	}
	for _, name := range metadata.TOP_LEVEL_ROLE_NAMES {
		if md.Signed.Roles[name] == nil {
			return errShape
		}
	}
	return checkCommon(md.Signed.SpecVersion, md.Signed.Version)
}

func checkTimestamp(data []byte) error {
	md, err := metadata.Timestamp().FromBytes(data)
	if err != nil {
		return err
	}
	if !metaFiles(md.Signed.Meta, "snapshot.json") {
		return errShape
	}
	return checkCommon(md.Signed.SpecVersion, md.Signed.Version)
}

func checkSnapshot(data []byte) error {
	md, err := metadata.Snapshot().FromBytes(data)
	if err != nil {
		return err
	}
	if !metaFiles(md.Signed.Meta, "targets.json") {
		return errShape
	}
	return checkCommon(md.Signed.SpecVersion, md.Signed.Version)
}

func checkTargets(data []byte) error {
	md, err := metadata.Targets().FromBytes(data)
	if err != nil {
		return err
	}
	for _, target := range md.Signed.Targets {
		if target == nil || target.Length < 0 {
			return errShape
		}
	}
	if d := md.Signed.Delegations; d != nil {
		for _, key := range d.Keys {
			if key == nil {
				return errShape
			}
		}
		if s := d.SuccinctRoles; s != nil && (s.BitLength < 1 || s.BitLength > 32) {
			return errShape // TAP 15
		}
	}
	return checkCommon(md.Signed.SpecVersion, md.Signed.Version)
}

// metaFiles reports whether every entry is there with a version, and the
// needed one among them.
func metaFiles(meta map[string]*metadata.MetaFiles, needed string) bool {
	for _, m := range meta {
		if m == nil || m.Version < 1 || m.Length < 0 {
			return false
		}
	}
	return meta[needed] != nil
}
