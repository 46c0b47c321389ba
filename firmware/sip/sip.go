// Package sip is the phone's signalling: one outbound mutual-TLS 1.3
// connection to the call server, registration and one call at a time (RFC
// 3261, RFC 5626 keep-alive and back-off, RFC 3264 through package sdp). It
// opens no listener and has no clear-text transport. It moves no audio and
// holds no key: the certificate's signer may live in another process.
package sip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"ringfence/firmware/sdp"
	"ringfence/provisioning/wire/report"
)

// Errors that a caller branches on.
var (
	ErrNotRegistered = errors.New("not registered at the call server")
	ErrBusy          = errors.New("already in a call")
	ErrNoCall        = errors.New("no such call")
	ErrNumber        = errors.New("number cannot be dialled")
)

// Media carries the sound of one call at a time. Reserve comes first; Stop
// ends whatever Reserve or Start began and may follow either.
type Media interface {
	// Reserve binds the local RTP port of the coming call.
	Reserve(ctx context.Context) (port uint16, err error)
	// Start begins to send and receive. It returns when both run.
	Start(ctx context.Context, s sdp.Stream) error
	// Stop ends the stream and returns what it measured: only the media
	// fields of the record are used.
	Stop() report.Call
}

// Config says who the phone is and whom it trusts. Fields without a stated
// default must be set.
type Config struct {
	User        string // user part of the address-of-record
	Display     string // shown to the called; empty = none
	Domain      string // SIP domain
	Server      string // host:port that is dialled
	ServerName  string // name in the server's certificate
	CAs         *x509.CertPool
	Certificate func() (tls.Certificate, error) // called once per handshake; PrivateKey is any crypto.Signer
	Policy      sdp.Policy
	Media       Media
	MediaAddr   netip.Addr // zero = local address of the signalling connection
	Emergency   []string   // numbers that are flagged as emergency calls
	Log         *slog.Logger
	Events      func(Event) // called in order from one goroutine; nil = none

	Expires   time.Duration // of a registration; zero = 10 min
	KeepAlive time.Duration // between CRLF pings; zero = 20 s
	PongWait  time.Duration // RFC 5626 4.4.1; zero = 10 s
	RetryBase time.Duration // RFC 5626 4.5; zero = 2 s
	RetryMax  time.Duration // zero = 1800 s
	RingLimit time.Duration // an unanswered call ends; zero = 2 min
}

// Kind says what an Event reports.
type Kind string

// The kinds of events.
const (
	Registered   Kind = "registered"
	Unregistered Kind = "unregistered" // Reason says why
	RingingIn    Kind = "ringing in"
	RingingOut   Kind = "ringing out"
	Answered     Kind = "answered"
	Ended        Kind = "ended" // Call is the record
)

// Event is one thing that happened.
type Event struct {
	Kind      Kind
	Peer      string // address-of-record of the other party
	Reason    string
	Emergency bool
	Codec     string // with Answered: what was agreed
	Suite     string
	Call      *report.Call
}

// Phone is one line at one call server. Its methods are safe for concurrent use.
type Phone struct {
	cfg    Config
	ua     *sipgo.UserAgent
	client *sipgo.Client
	feed   *feed
	events chan Event
	ctx    context.Context // of Run; calls end with it
	work   sync.WaitGroup

	mu   sync.Mutex
	link *link // nil while not registered
	call *call // nil while idle
}

// New checks cfg; it opens nothing.
func New(cfg Config) (*Phone, error) {
	if err := cfg.fill(); err != nil {
		return nil, fmt.Errorf("sip configuration: %w", err)
	}
	p := &Phone{cfg: cfg, feed: newFeed(), events: make(chan Event, 64)}
	if err := p.build(); err != nil {
		return nil, fmt.Errorf("build SIP stack: %w", err)
	}
	return p, nil
}

func (c *Config) fill() error {
	switch {
	case !dialable(c.User) || c.Domain == "" || strings.ContainsAny(c.Domain, " <>@;\r\n"):
		return fmt.Errorf("user %q and domain %q must form an address-of-record", c.User, c.Domain)
	case strings.ContainsAny(c.Display, "\"\\\r\n\x00"):
		return fmt.Errorf("display name %q", c.Display)
	case c.Server == "" || c.ServerName == "":
		return errors.New("server and server name are required")
	case c.CAs == nil || c.Certificate == nil:
		return errors.New("trust anchors and client certificate are required")
	case c.Media == nil || c.Log == nil:
		return errors.New("media and log are required")
	}
	if _, err := sdp.NewOffer(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 2000), c.Policy, 0); err != nil {
		return err
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.Expires, 10 * time.Minute}, {&c.KeepAlive, 20 * time.Second}, {&c.PongWait, 10 * time.Second},
		{&c.RetryBase, 2 * time.Second}, {&c.RetryMax, 30 * time.Minute}, {&c.RingLimit, 2 * time.Minute}} {
		if *d.field < 0 {
			return errors.New("negative duration")
		}
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return nil
}

// build wires sipgo so that it can neither dial nor listen by itself.
func (p *Phone) build() error {
	quiet := slog.New(slog.DiscardHandler) // sipgo logs whole messages
	tcp := &sip.TransportTCP{WriteTimeout: 5 * time.Second, DialerCreate: func(net.Addr) net.Dialer {
		return net.Dialer{ControlContext: refuseDial}
	}}
	ua, err := sipgo.NewUA(sipgo.WithUserAgent(p.cfg.User), sipgo.WithUserAgentHostname(p.cfg.Domain),
		sipgo.WithUserAgenTLSConfig(&tls.Config{MinVersion: tls.VersionTLS13, ServerName: p.cfg.ServerName, RootCAs: p.cfg.CAs}),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet), sip.WithTransportLayerConnectionReuse(true),
			sip.WithTransportLayerTransports(sip.TransportsConfig{TLS: &sip.TransportTLS{TransportTCP: tcp}})),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet), sip.WithTransactionLayerTerminateOnConnClose()))
	if err != nil {
		return err
	}
	p.ua = ua
	if p.client, err = sipgo.NewClient(ua, sipgo.WithClientLogger(quiet)); err != nil {
		return err
	}
	srv, err := sipgo.NewServer(ua, sipgo.WithServerLogger(quiet))
	if err != nil {
		return err
	}
	p.handle(srv)
	return nil
}

// QuietLibrary silences the logger of the SIP library, which prints whole
// messages of strangers. It changes a setting of the process: main calls it
// once, before any Phone runs.
func QuietLibrary() { sip.SetDefaultLogger(slog.New(slog.NewTextHandler(io.Discard, nil))) }

// Run keeps the phone registered until ctx ends, then hangs up, removes the
// registration and returns nil. It runs once. A call outlives a lost
// connection: its sound does not pass through the call server.
func (p *Phone) Run(ctx context.Context) error {
	defer func() { _ = p.ua.Close() }() // only our own, closed connections
	done := make(chan struct{})
	go func() { defer close(done); p.dispatch() }()
	served := make(chan struct{})
	go func() { defer close(served); _ = p.ua.TransportLayer().ServeTLS(p.feed) }() // ends with ErrClosed
	callCtx, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	p.mu.Lock()
	p.ctx = callCtx
	p.mu.Unlock()
	p.stayRegistered(ctx)
	p.mu.Lock() // take sees either an ended context or is waited for
	end()
	p.mu.Unlock()
	p.work.Wait()
	_ = p.feed.Close() // always nil
	<-served
	close(p.events)
	<-done
	return nil
}

func (p *Phone) dispatch() {
	for e := range p.events {
		if p.cfg.Events != nil {
			p.cfg.Events(e)
		}
	}
}

// emit queues e. A consumer that is 64 events behind has stopped: the event
// is dropped and logged.
func (p *Phone) emit(e Event) {
	select {
	case p.events <- e:
	default:
		p.cfg.Log.Error("event dropped", "kind", e.Kind)
	}
}

// Registered reports whether the call server accepts our requests now.
func (p *Phone) Registered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link != nil
}

func (p *Phone) aor(user string) sip.Uri {
	return sip.Uri{Scheme: "sip", User: user, Host: p.cfg.Domain}
}

// contact names no address of ours: the server uses the connection (the
// host is reserved by RFC 2606).
func (p *Phone) contact() *sip.ContactHeader {
	return &sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: p.cfg.User, Host: "device.invalid",
		UriParams: sip.HeaderParams{{K: "transport", V: "tls"}}}}
}

func (p *Phone) emergency(number string) bool { return slices.Contains(p.cfg.Emergency, number) }

func dialable(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-_+*") == ""
}
