package main

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"

	"ringfence/provisioning/ca"
)

// config is provisiond.toml.
type config struct {
	Listen          string `toml:"listen" comment:"address for phones"`
	AdminListen     string `toml:"admin_listen" comment:"address for operators; keep it on loopback or a management network"`
	Name            string `toml:"name" comment:"host name of this service, as phones know it"`
	SIPName         string `toml:"sip_name" comment:"host name of the call server"`
	Domain          string `toml:"domain" comment:"SIP domain"`
	Database        string `toml:"database" comment:"SQLite file, relative to this file"`
	CallServerAdmin string `toml:"call_server_admin" comment:"loopback address of the call server's administration, such as 127.0.0.1:18080; empty: no call server is told"`
	Lifetime        string `toml:"certificate_lifetime" comment:"of phones' certificates"`
	Reattest        string `toml:"reattest" comment:"interval of fresh proofs on the management stream, at most 30s for a reaction within a minute"`
	MaxConnections  int    `toml:"max_connections"`
	CanaryAbove     int    `toml:"rollout_canary_above" comment:"a rollout to more phones must start with a small ring that soaks"`
	CanaryAtMost    int    `toml:"rollout_canary_at_most" comment:"phones in that ring"`
	ApprovalAbove   int    `toml:"rollout_approval_above" comment:"a rollout to more phones needs a second operator"`
	Releases        string `toml:"releases,omitempty" comment:"update repository (ringfence release init), relative to this file; empty: none is served"`

	// CallServerListen is asked for by init only: the address that the
	// generated Kamailio configuration serves phones on.
	CallServerListen string `toml:"-"`

	dir                string
	lifetime, reattest time.Duration
}

// cautious sets the rollout policy of a new site, and of a file that says
// nothing about it.
func (c *config) cautious() { c.CanaryAbove, c.CanaryAtMost, c.ApprovalAbove = 20, 50, 500 }

func readConfig(path string) (*config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	cfg := &config{dir: filepath.Dir(path)}
	cfg.cautious()
	if err := toml.NewDecoder(bytes.NewReader(raw)).DisallowUnknownFields().Decode(cfg); err != nil {
		if strict := new(toml.StrictMissingError); errors.As(err, &strict) {
			return nil, fmt.Errorf("configuration %s: unknown setting:\n%s", path, strict.String())
		}
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if cfg.lifetime, err = time.ParseDuration(cfg.Lifetime); err != nil || cfg.lifetime < time.Minute {
		return nil, fmt.Errorf("configuration %s: certificate_lifetime %q: want a duration such as 72h", path, cfg.Lifetime)
	}
	if cfg.reattest, err = time.ParseDuration(cfg.Reattest); err != nil || cfg.reattest < time.Second || cfg.reattest > 30*time.Second {
		return nil, fmt.Errorf("configuration %s: reattest %q: want 1s to 30s", path, cfg.Reattest)
	}
	if cfg.Listen == "" || cfg.AdminListen == "" || cfg.Name == "" || cfg.SIPName == "" || cfg.Domain == "" || cfg.Database == "" || cfg.MaxConnections < 1 {
		return nil, fmt.Errorf("configuration %s: listen, admin_listen, name, sip_name, domain, database and max_connections must be set", path)
	}
	return cfg, nil
}

func (c *config) file(name string) string { return filepath.Join(c.dir, name) }

// authority loads DIR/name-ca.{pem,key}.
func (c *config) authority(name string) (*ca.CA, error) {
	pair, err := c.pair(name + "-ca")
	if err != nil {
		return nil, err
	}
	return ca.New(pair.Leaf, pair.PrivateKey.(crypto.Signer))
}

// pair loads DIR/name.{pem,key}; its key is a crypto.Signer.
func (c *config) pair(name string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.file(name+".pem"), c.file(name+".key"))
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	if _, ok := pair.PrivateKey.(crypto.Signer); !ok {
		return nil, fmt.Errorf("load %s: key of type %T cannot sign", name, pair.PrivateKey)
	}
	return &pair, nil
}

func encodeCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
