package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"ringfence/firmware/identity"
)

// repository is where releases come from: the provisioning service, over
// mutual TLS with the management certificate.
type repository struct {
	base   url.URL
	client *http.Client
}

// ErrNoRepository reports a phone that has not enrolled in this boot.
var ErrNoRepository = errors.New("no provisioning service yet")

// answerTimeout bounds the wait for an answer's first byte; the content of a
// large file may take longer.
const answerTimeout = 30 * time.Second

func (a *Agent) setRepository(server *identity.Server, own *identity.Credential) {
	from := *server
	transport := &http.Transport{
		DialTLSContext:  func(ctx context.Context, _, _ string) (net.Conn, error) { return from.Dial(ctx, own, "http/1.1") },
		IdleConnTimeout: 10 * time.Second, ResponseHeaderTimeout: answerTimeout, MaxIdleConns: 1,
	}
	a.mu.Lock()
	old := a.repository
	a.repository = &repository{*server.URL, &http.Client{Transport: transport}}
	a.mu.Unlock()
	if old != nil {
		old.client.CloseIdleConnections()
	}
}

// Repository returns a client that speaks to the provisioning service as this
// phone, and the service's URL. Both change when the certificate is renewed:
// ask each time. It is safe for concurrent use with Run.
func (a *Agent) Repository() (*http.Client, *url.URL, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.repository == nil {
		return nil, nil, ErrNoRepository
	}
	base := a.repository.base
	return a.repository.client, &base, nil
}
