package registrar

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed kamailio.cfg.tmpl
var kamailioTemplate string

// tlsTemplate: SSLv23 is Kamailio's name for "negotiate"; the OpenSSL file
// raises the floor to TLS 1.3, which Kamailio 5.6 cannot say itself, and the
// route script checks the version once more.
const tlsTemplate = `[server:default]
method = SSLv23
verify_certificate = yes
require_certificate = yes
private_key = {{.Key}}
certificate = {{.Certificate}}
ca_list = {{.SIPCA}}
[client:default]
verify_certificate = yes
require_certificate = yes
ca_list = {{.SIPCA}}
`

const opensslConf = `openssl_conf = o
[o]
ssl_conf = s
[s]
system_default = d
[d]
MinProtocol = TLSv1.3
`

// Site describes one Kamailio. Every field without a default must be set.
type Site struct {
	Listen      netip.AddrPort // TLS, for the phones
	Admin       netip.AddrPort // HTTP, loopback only, for the Connector
	Domain      string
	Certificate string // PEM file, of Listen's name
	Key         string // PEM file
	SIPCA       string // PEM file, the only CA whose certificates may connect
	ModulePath  string // zero = found below /usr/lib
	Workers     int    // TCP workers; zero = 4
}

// Write writes kamailio.cfg, tls.cfg, openssl.cnf and README into dir, which
// it makes when missing.
func Write(dir string, s Site) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := s.fill(); err != nil {
		return fmt.Errorf("call server site: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		return err
	}
	data := struct {
		Site
		Dir string
	}{s, dir}
	for name, text := range map[string]string{"kamailio.cfg": kamailioTemplate, "tls.cfg": tlsTemplate, "openssl.cnf": opensslConf, "README": readme} {
		t, err := template.New(name).Option("missingkey=error").Parse(text)
		if err != nil {
			return fmt.Errorf("template %s: %w", name, err)
		}
		var b strings.Builder
		if err := t.Execute(&b, data); err != nil {
			return fmt.Errorf("template %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

const readme = `Start:  OPENSSL_CONF={{.Dir}}/openssl.cnf kamailio -f {{.Dir}}/kamailio.cfg -DD -E -P {{.Dir}}/run/pid -Y {{.Dir}}/run
OPENSSL_CONF keeps TLS 1.2 out; without it the route script still refuses every request below 1.3.
The administrative port {{.Admin}} is for the provisioning service on this machine: keep other users off this machine.
`

func (s *Site) fill() error {
	if !s.Listen.IsValid() || s.Listen.Addr().IsUnspecified() || s.Listen.Port() == 0 {
		return fmt.Errorf("listen address %v must be one address and port", s.Listen)
	}
	if !s.Admin.IsValid() || !s.Admin.Addr().IsLoopback() || s.Admin.Port() == 0 {
		return fmt.Errorf("admin address %v must be on loopback", s.Admin)
	}
	if !plainName(s.Domain) {
		return fmt.Errorf("domain %q is not a host name", s.Domain)
	}
	if s.ModulePath == "" {
		found, err := filepath.Glob("/usr/lib/*/kamailio/modules")
		if err != nil || len(found) == 0 {
			return fmt.Errorf("no Kamailio modules below /usr/lib: install kamailio, kamailio-tls-modules, kamailio-json-modules and kamailio-extra-modules")
		}
		s.ModulePath = found[0]
	}
	if s.Workers <= 0 {
		s.Workers = 4
	}
	for _, p := range []*string{&s.Certificate, &s.Key, &s.SIPCA, &s.ModulePath} {
		abs, err := filepath.Abs(*p)
		if err != nil || *p == "" || strings.ContainsAny(abs, "\"\r\n;#") {
			return fmt.Errorf("file %q: want a plain path", *p)
		}
		*p = abs
	}
	return nil
}

// Command runs the site that Write put into dir, in the foreground; the
// caller starts it and ends it by SIGTERM.
func Command(ctx context.Context, dir string) *exec.Cmd {
	run := filepath.Join(dir, "run")
	cmd := exec.CommandContext(ctx, "kamailio", "-f", filepath.Join(dir, "kamailio.cfg"), "-DD", "-E", "-P", filepath.Join(run, "pid"), "-Y", run)
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+filepath.Join(dir, "openssl.cnf"))
	return cmd
}
