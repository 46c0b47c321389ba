package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"ringfence/firmware/identity"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/evidence"
)

// session is one whole attempt: find the server, trust it, hold valid
// certificates, keep the management stream. connected is called when the
// server accepted us.
func (a *Agent) session(ctx context.Context, connected func()) error {
	server, err := a.server(ctx)
	if err != nil {
		return err
	}
	if a.owner == nil {
		if err := a.bootstrap(ctx, server); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	server.Roots = x509.NewCertPool()
	server.Roots.AddCert(a.owner)
	management, err := a.certificates(ctx, server)
	if err != nil {
		return err
	}
	a.setRepository(server, management)
	a.event(EventEnrolled, fmt.Sprintf("until=%s", management.Leaf.NotAfter.UTC().Format("2006-01-02T15:04:05Z")))
	return a.stream(ctx, server, management, connected)
}

func (a *Agent) server(ctx context.Context) (*identity.Server, error) {
	hint, err := a.cfg.Hint(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the provisioning service: %w", err)
	}
	u, err := identity.ParseServerURL(hint)
	if err != nil {
		return nil, err
	}
	return &identity.Server{URL: u, Dialer: a.cfg.Dialer, Now: a.cfg.Now}, nil
}

func (a *Agent) bootstrap(ctx context.Context, server *identity.Server) error {
	cms, owner, err := server.FetchVoucher(ctx, a.factory, a.keys)
	if err != nil {
		return err
	}
	if err := identity.StoreVoucher(a.cfg.StateDir, cms); err != nil {
		return err
	}
	a.owner = owner
	a.event(EventOwnerPinned, owner.Subject.CommonName)
	return a.openConfig()
}

// certificates returns a valid management certificate and publishes the SIP
// one, enrolling for what is missing, expired or due.
func (a *Agent) certificates(ctx context.Context, server *identity.Server) (*identity.Credential, error) {
	management, err := a.usable(enroll.Management)
	if err != nil {
		return nil, err
	}
	switch {
	case management == nil || a.recover:
		own, err := a.factory.Credential(a.keys)
		if err != nil {
			return nil, err
		}
		if management, err = a.enroll(ctx, server, own, enroll.Management, false); err != nil {
			return nil, err
		}
		a.recover = false
	case a.due(management):
		if management, err = a.renew(ctx, server, management, enroll.Management); err != nil {
			return nil, err
		}
	}
	sip, err := a.usable(enroll.SIP)
	if err != nil {
		return nil, err
	}
	switch {
	case sip == nil:
		sip, err = a.enroll(ctx, server, management, enroll.SIP, false)
	case a.due(sip):
		sip, err = a.renew(ctx, server, management, enroll.SIP)
	}
	if err != nil {
		return nil, err
	}
	a.setSIP(sip)
	return management, nil
}

// usable returns the certificate in force, nil when there is none that lasts.
func (a *Agent) usable(label enroll.Label) (*identity.Credential, error) {
	c, err := a.slots[label].Current()
	if errors.Is(err, identity.ErrNone) {
		return nil, nil
	}
	if err != nil {
		a.cfg.Log.Warn("stored certificate is unusable, enrolling again", "label", label, "error", err)
		return nil, nil
	}
	if a.cfg.Now().After(c.Leaf.NotAfter) {
		return nil, nil
	}
	return c, nil
}

func (a *Agent) due(c *identity.Credential) bool { return a.cfg.Now().After(c.RenewAt()) }

func (a *Agent) renew(ctx context.Context, server *identity.Server, by *identity.Credential, label enroll.Label) (*identity.Credential, error) {
	c, err := a.enroll(ctx, server, by, label, true)
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	a.event(EventRenewed, string(label))
	return c, nil
}

// enroll runs csrattrs, evidence and (re)enrolment on one connection, then
// probes the new certificate and puts it in force.
func (a *Agent) enroll(ctx context.Context, server *identity.Server, by *identity.Credential, label enroll.Label, again bool) (*identity.Credential, error) {
	session, err := server.Open(ctx, by)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	signer, err := a.keys.Signer(string(label))
	if err != nil {
		return nil, err
	}
	issuers, err := session.CACerts(ctx, label)
	if err != nil {
		return nil, err
	}
	csr, err := a.request(ctx, session, signer, label)
	if err != nil {
		return nil, err
	}
	chain, err := session.Enroll(ctx, label, again, csr)
	if err != nil {
		return nil, err
	}
	c, err := a.slots[label].Propose(chain)
	if err != nil {
		return nil, err
	}
	if err := a.probe(ctx, server, c, label, issuers); err != nil {
		return nil, fmt.Errorf("new %s certificate: %w", label, err)
	}
	return c, a.slots[label].Commit()
}

func (a *Agent) request(ctx context.Context, session *identity.Session, signer *identity.Signer, label enroll.Label) ([]byte, error) {
	nonce, err := session.Nonce(ctx, label)
	if err != nil {
		return nil, err
	}
	exporter, err := session.Exporter()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	uses := []string{evidence.UseSIP}
	if label == enroll.Management {
		uses = []string{evidence.UseManagement, evidence.UseSeal}
	}
	proof, err := a.attester.Evidence(enroll.Binding(nonce, spki, exporter), uses...)
	if err != nil {
		return nil, err
	}
	return identity.Request(signer, a.factory.Device, proof)
}

// probe checks the issuer and, for the management certificate, that the server
// lets us in with it. The SIP certificate is for another server.
func (a *Agent) probe(ctx context.Context, server *identity.Server, c *identity.Credential, label enroll.Label, issuers []*x509.Certificate) error {
	signed := false
	for _, issuer := range issuers {
		signed = signed || c.Leaf.CheckSignatureFrom(issuer) == nil
	}
	if !signed {
		return errors.New("not issued by a CA that cacerts names")
	}
	if label != enroll.Management {
		return nil
	}
	session, err := server.Open(ctx, c)
	if err != nil {
		return err
	}
	defer session.Close()
	_, err = session.CACerts(ctx, label)
	return err
}

// renewDue renews what is due while a stream is open; errRenewed asks for a new
// connection under the new management certificate.
func (a *Agent) renewDue(ctx context.Context, server *identity.Server, management *identity.Credential) error {
	sip, err := a.sipCredential()
	if err != nil {
		return err
	}
	if a.due(sip) {
		renewed, err := a.renew(ctx, server, management, enroll.SIP)
		if err != nil {
			return err
		}
		a.setSIP(renewed)
	}
	if !a.due(management) {
		return nil
	}
	if _, err := a.renew(ctx, server, management, enroll.Management); err != nil {
		return err
	}
	return errRenewed
}
