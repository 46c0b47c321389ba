package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"

	"ringfence/provisioning/ca"
	"ringfence/provisioning/fleet/sqlstore"
	"ringfence/provisioning/registrar"
)

const (
	rootLifetime   = 20 * 365 * 24 * time.Hour
	serverLifetime = 2 * 365 * 24 * time.Hour
	adminLifetime  = 365 * 24 * time.Hour
)

// profile is admin.json: all that the command-line tool needs.
type profile struct {
	Address     string `json:"address"`
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

func runInit(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("provisiond init", flag.ContinueOnError)
	flags.SetOutput(stderr)
	cfg := &config{Database: "provision.db", Lifetime: "72h", Reattest: "30s", MaxConnections: 4096}
	cfg.cautious()
	flags.StringVar(&cfg.Name, "name", "", "host name of this service")
	flags.StringVar(&cfg.SIPName, "sip-name", "", "host name of the call server")
	flags.StringVar(&cfg.Domain, "domain", "", "SIP domain")
	flags.StringVar(&cfg.Listen, "listen", ":8443", "address for phones")
	flags.StringVar(&cfg.AdminListen, "admin-listen", "127.0.0.1:8444", "address for operators")
	flags.StringVar(&cfg.CallServerAdmin, "call-server-admin", "", "loopback address of the call server's administration")
	flags.StringVar(&cfg.CallServerListen, "call-server-listen", "", "address for phones of a Kamailio whose configuration is made too")
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' { // DIR may stand before the flags
		cfg.dir, args = args[0], args[1:]
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if cfg.dir == "" && flags.NArg() == 1 {
		cfg.dir = flags.Arg(0)
	} else if flags.NArg() != 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if cfg.dir == "" || cfg.Name == "" || cfg.SIPName == "" || cfg.Domain == "" {
		return errors.New("want: provisiond init DIR --name HOST --sip-name HOST --domain DOMAIN [--call-server-listen ADDRESS:PORT --call-server-admin 127.0.0.1:PORT]")
	}
	callServer, err := callServerSite(cfg) // before anything is written: a site is never made twice
	if err != nil {
		return err
	}
	if err := makeSite(ctx, cfg); err != nil {
		return fmt.Errorf("init %s: %w", cfg.dir, err)
	}
	fmt.Fprintf(stderr, "site made in %s\nnext: provisiond --config %s\n      ringfence --admin %s device list\n",
		cfg.dir, cfg.file("provisiond.toml"), cfg.file("admin.json"))
	if callServer == nil {
		return nil
	}
	dir := filepath.Join(filepath.Dir(callServer.Certificate), "kamailio")
	if err := registrar.Write(dir, *callServer); err != nil {
		return fmt.Errorf("init %s: %w", cfg.dir, err)
	}
	fmt.Fprintf(stderr, "      (cd %[1]s && OPENSSL_CONF=%[1]s/openssl.cnf kamailio -f %[1]s/kamailio.cfg -DD -E -P %[1]s/run/pid -Y %[1]s/run)\n", dir)
	return nil
}

// makeSite builds everything beside the target and renames it into place, so
// that a site is whole or not there, and never overwritten.
func makeSite(ctx context.Context, cfg *config) error {
	if entries, err := os.ReadDir(cfg.dir); err == nil && len(entries) > 0 {
		return errors.New("not empty: a site is never overwritten; choose another directory")
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	target := filepath.Clean(cfg.dir)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(target), ".site-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	building := *cfg
	building.dir = dir
	if err := (&site{cfg: &building, now: time.Now()}).write(ctx); err != nil {
		return err
	}
	return os.Rename(dir, target)
}

type site struct {
	cfg *config
	now time.Time
}

func (s *site) write(ctx context.Context) error {
	roots := make(map[string]*ca.CA)
	for _, name := range []string{"owner", "management", "sip", "admin"} {
		key, err := newKey()
		if err != nil {
			return err
		}
		if roots[name], err = ca.NewRoot(s.cfg.Domain+" "+name+" CA", key, s.now, rootLifetime); err != nil {
			return err
		}
		if err := s.put(name+"-ca", roots[name].Certificate(), key); err != nil {
			return err
		}
	}
	if err := s.leaves(roots); err != nil {
		return err
	}
	text, err := toml.Marshal(s.cfg)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.cfg.file("provisiond.toml"), text, 0o644); err != nil {
		return err
	}
	store, err := sqlstore.Open(ctx, s.cfg.file(s.cfg.Database))
	if err != nil {
		return err
	}
	return store.Close()
}

func (s *site) leaves(roots map[string]*ca.CA) error {
	owner := roots["owner"]
	for _, leaf := range []struct {
		name  string
		issue func(crypto.PublicKey) (*x509.Certificate, error)
	}{
		{"server", func(pub crypto.PublicKey) (*x509.Certificate, error) {
			return owner.Server([]string{s.cfg.Name, "localhost", "127.0.0.1"}, pub, s.now, serverLifetime)
		}},
		{"sip-server", func(pub crypto.PublicKey) (*x509.Certificate, error) {
			return owner.Server([]string{s.cfg.SIPName, s.cfg.Domain}, pub, s.now, serverLifetime)
		}},
		{"config-signer", func(pub crypto.PublicKey) (*x509.Certificate, error) {
			return owner.ConfigSigner(pub, s.now, serverLifetime)
		}},
	} {
		key, err := newKey()
		if err != nil {
			return err
		}
		cert, err := leaf.issue(key.Public())
		if err != nil {
			return err
		}
		if err := s.put(leaf.name, cert, key); err != nil {
			return err
		}
	}
	return s.admin(owner, roots["admin"])
}

func (s *site) admin(owner, operators *ca.CA) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	cert, err := operators.Admin("admin", key.Public(), s.now, adminLifetime)
	if err != nil {
		return err
	}
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.cfg.AdminListen)
	if err != nil {
		return fmt.Errorf("admin-listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	body, err := json.MarshalIndent(profile{"https://" + net.JoinHostPort(host, port), string(encodeCertificate(owner.Certificate())),
		string(encodeCertificate(cert)), string(text)}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.cfg.file("admin.json"), body, 0o600)
}

func (s *site) put(name string, cert *x509.Certificate, key crypto.Signer) error {
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.cfg.file(name+".key"), text, 0o600); err != nil {
		return err
	}
	return os.WriteFile(s.cfg.file(name+".pem"), encodeCertificate(cert), 0o644)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
