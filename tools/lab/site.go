package lab

import (
	"context"
	"path/filepath"
)

// Site is an owner's servers: the provisioning service on its embedded
// database and the call server.
type Site struct {
	Tools Tools
	Dir   string

	provisiond, kamailio *Process
}

// NewSite makes the site's keys and configuration.
func NewSite(ctx context.Context, tools Tools, dir string) (*Site, error) {
	_, err := Run(ctx, tools.Provisiond, "init", dir, "--name", ProvName, "--sip-name", SIPName, "--domain", Domain,
		"--listen", ServerAddress+":8443", "--admin-listen", AdminAddress,
		"--call-server-listen", SIPAddress, "--call-server-admin", RPCAddress)
	return &Site{Tools: tools, Dir: dir}, err
}

// OwnerCA is the certificate that vouchers pin.
func (s *Site) OwnerCA() string { return filepath.Join(s.Dir, "owner-ca.pem") }

// Start runs the servers and waits until they serve.
func (s *Site) Start(ctx context.Context) error {
	if err := s.StartCallServer(ctx); err != nil {
		return err
	}
	return s.StartProvisiond(ctx)
}

// StartProvisiond runs the provisioning service.
func (s *Site) StartProvisiond(ctx context.Context) (err error) {
	s.provisiond, err = Start(s.Dir, Command{Name: "provisiond",
		Args: []string{s.Tools.Provisiond, "--config", filepath.Join(s.Dir, "provisiond.toml")}})
	if err != nil {
		return err
	}
	return s.provisiond.WaitLog(ctx, "serving")
}

// StartCallServer runs Kamailio with the configuration that `provisiond init`
// generated.
func (s *Site) StartCallServer(ctx context.Context) (err error) {
	dir := filepath.Join(s.Dir, "kamailio")
	s.kamailio, err = Start(s.Dir, Command{Name: "kamailio", Dir: dir,
		Args: []string{"/usr/sbin/kamailio", "-f", filepath.Join(dir, "kamailio.cfg"), "-DD", "-E",
			"-P", filepath.Join(dir, "run", "pid"), "-Y", filepath.Join(dir, "run")},
		Env: []string{"OPENSSL_CONF=" + filepath.Join(dir, "openssl.cnf")}})
	if err != nil {
		return err
	}
	return Poll(ctx, func() error {
		if !s.kamailio.Alive() {
			return Final(s.kamailio.WaitLog(ctx, "never"))
		}
		return dialable(ctx, SIPAddress)
	})
}

// CallServer and Provisiond are the running processes, for tests that end them.
func (s *Site) CallServer() *Process { return s.kamailio }
func (s *Site) Provisiond() *Process { return s.provisiond }

// Stop ends the servers.
func (s *Site) Stop() {
	for _, p := range []*Process{s.provisiond, s.kamailio} {
		if p != nil {
			p.Stop()
		}
	}
}

// Admin runs `ringfence` as the site's first administrator.
func (s *Site) Admin(ctx context.Context, args ...string) ([]byte, error) {
	full := append([]string{s.Tools.Ringfence, "--admin", filepath.Join(s.Dir, "admin.json")}, args...)
	return Run(ctx, full...)
}
