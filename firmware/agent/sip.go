package agent

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"

	"ringfence/firmware/identity"
)

// ErrNoSIP reports that the phone has no SIP certificate yet.
var ErrNoSIP = errors.New("no SIP certificate yet")

// SIPChain returns the SIP certificate chain (DER, leaf first), for the TLS
// client of the call server. The caller may keep and change it.
func (a *Agent) SIPChain() ([][]byte, error) {
	c, err := a.sipCredential()
	if err != nil {
		return nil, err
	}
	chain := make([][]byte, len(c.Chain))
	for i, der := range c.Chain {
		chain[i] = bytes.Clone(der)
	}
	return chain, nil
}

// SignSIP signs a SHA-256 digest with the SIP key (ECDSA P-256, ASN.1). The
// management key cannot be reached this way.
func (a *Agent) SignSIP(digest []byte) ([]byte, error) {
	c, err := a.sipCredential()
	if err != nil {
		return nil, err
	}
	return c.Signer.Sign(rand.Reader, digest, crypto.SHA256)
}

func (a *Agent) sipCredential() (*identity.Credential, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused {
		return nil, ErrNotProven
	}
	if a.sip == nil {
		return nil, ErrNoSIP
	}
	if now := a.cfg.Now(); now.After(a.sip.Leaf.NotAfter) {
		return nil, fmt.Errorf("SIP certificate expired at %s: %w", a.sip.Leaf.NotAfter, ErrNoSIP)
	}
	return a.sip, nil
}

func (a *Agent) setSIP(c *identity.Credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sip = c
}

func (a *Agent) setRefused(refused bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = refused
}

func (a *Agent) isRefused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused
}
