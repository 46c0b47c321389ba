package translog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ringfence/provisioning/translog/notekey"
	"ringfence/provisioning/wire"
)

// Files of a log's folder.
const (
	fileKey  = "log.key"  // private key, mode 0600
	fileSite = "log.json" // witnesses and quorum
	dirTiles = "tiles"    // what everyone may read
)

// site is the content of log.json.
type site struct {
	Witnesses []Witness `json:"witnesses"`
	Quorum    int       `json:"quorum"`
}

// Init makes the folder of a new log: its key and who must witness it. The
// origin is the log's name, a URL without scheme. It returns the log's verifier
// key, which witnesses and phones must know.
func Init(dir, origin string, witnesses []Witness, quorum int) (string, error) {
	key, err := notekey.Generate(origin)
	if err != nil {
		return "", err
	}
	c := Config{Dir: filepath.Join(dir, dirTiles), Key: key, Witnesses: witnesses, Quorum: quorum}
	if _, _, err := prepare(c); err != nil {
		return "", err
	}
	raw, err := json.MarshalIndent(site{Witnesses: witnesses, Quorum: quorum}, "", "  ")
	if err != nil {
		return "", err
	}
	if err := key.Write(filepath.Join(dir, fileKey)); err != nil {
		return "", fmt.Errorf("make release log: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileSite), append(raw, '\n'), 0o644); err != nil {
		return "", err
	}
	return key.LogKey()
}

// Load reads the configuration of the log in a folder made by [Init].
func Load(dir string) (c Config, err error) {
	c.Dir = Tiles(dir)
	if c.Key, err = notekey.Read(filepath.Join(dir, fileKey)); err != nil {
		return c, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, fileSite))
	var s site
	if err = errors.Join(err, wire.DecodeStrict(raw, 1<<20, &s)); err != nil {
		return c, fmt.Errorf("read %s of the release log: %w", fileSite, err)
	}
	c.Witnesses, c.Quorum = s.Witnesses, s.Quorum
	return c, nil
}

// Tiles is the public part of a log's folder: what [Handler] serves.
func Tiles(dir string) string { return filepath.Join(dir, dirTiles) }
