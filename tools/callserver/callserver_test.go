package callserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"ringfence/firmware/sip"
	"ringfence/provisioning/wire/device"
)

func TestRegistrationRefused(t *testing.T) {
	l := newLab(t)
	l.good("PHONE-A", "100").stop()   // the control: everything right
	foreign := newAuthority(t, "sip") // same name, other key
	for _, tc := range []struct {
		name string
		id   device.ID
		user string
		ca   authority
		edit func(*x509.Certificate)
		cfg  func(*sip.Config)
		want string
	}{
		{"no certificate", "PHONE-A", "100", l.sipCA, sipCert("PHONE-A"), func(c *sip.Config) {
			c.Certificate = func() (tls.Certificate, error) { return tls.Certificate{}, nil }
		}, "certificate required"},
		{"foreign CA", "PHONE-A", "100", foreign, sipCert("PHONE-A"), nil, "tls:"},
		{"owner CA", "PHONE-A", "100", l.owner, sipCert("PHONE-A"), nil, "unknown certificate authority"},
		{"expired", "PHONE-A", "100", l.sipCA, func(c *x509.Certificate) {
			sipCert("PHONE-A")(c)
			c.NotAfter = time.Now().Add(-time.Minute)
		}, nil, "expired certificate"},
		{"other line", "PHONE-A", "101", l.sipCA, sipCert("PHONE-A"), nil, "From does not match"},
		{"not in table", "PHONE-X", "100", l.sipCA, sipCert("PHONE-X"), nil, "Device not allowed"},
		{"management certificate", "PHONE-A", "100", l.sipCA, func(c *x509.Certificate) {
			sipCert("PHONE-A")(c)
			c.URIs = c.URIs[1:]
		}, nil, "Not a phone's SIP certificate"},
		{"URI of another device", "PHONE-A", "100", l.sipCA, func(c *x509.Certificate) {
			sipCert("PHONE-A")(c)
			c.URIs[0] = device.ID("PHONE-B").SIPURI(domain)
		}, nil, "Not a phone's SIP certificate"},
		{"server of another name", "PHONE-A", "100", l.sipCA, sipCert("PHONE-A"), func(c *sip.Config) { c.ServerName = "other.test" }, "not other.test"},
		{"server of a foreign CA", "PHONE-A", "100", l.sipCA, sipCert("PHONE-A"), func(c *sip.Config) {
			c.CAs = x509.NewCertPool()
			c.CAs.AddCert(foreign.cert)
		}, "unknown authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			change := []func(*sip.Config){}
			if tc.cfg != nil {
				change = append(change, tc.cfg)
			}
			p := l.phone(tc.id, tc.user, tc.ca, tc.edit, change...)
			defer p.stop()
			if e := p.expect(sip.Unregistered); !strings.Contains(e.Reason, tc.want) {
				t.Errorf("reason %q, want %q in it", e.Reason, tc.want)
			}
		})
	}
}

func TestCallEndedByEitherSide(t *testing.T) {
	l := newLab(t)
	a, b := l.good("PHONE-A", "100"), l.good("PHONE-B", "101")
	b.media.port = 20100
	for _, tc := range []struct {
		name       string
		ender      *phone
		endA, endB string
	}{{"caller", a, "hangup", "peer hangup"}, {"called", b, "peer hangup", "hangup"}} {
		if err := a.Dial(context.Background(), "101"); err != nil {
			t.Fatal(err)
		}
		if e := b.expect(sip.RingingIn); e.Peer != "sip:100@"+domain {
			t.Errorf("peer %q, want sip:100@%s", e.Peer, domain)
		}
		a.expect(sip.RingingOut)
		if len(b.media.started) != 0 {
			t.Error("media of the called runs before a person answered")
		}
		if err := b.Answer(); err != nil {
			t.Fatal(err)
		}
		a.expect(sip.Answered)
		b.expect(sip.Answered)
		sa, sb := <-a.media.started, <-b.media.started
		if !equalKeys(sa, sb) || sa.Remote.Port() != 20100 || sb.Remote.Port() != 20000 || sa.Suite != "AEAD_AES_256_GCM" {
			t.Errorf("%s: streams do not fit: %+v %+v", tc.name, sa, sb)
		}
		if err := a.Dial(context.Background(), "102"); !errors.Is(err, sip.ErrBusy) {
			t.Errorf("second Dial = %v, want %v", err, sip.ErrBusy)
		}
		time.Sleep(50 * time.Millisecond) // the ACK crosses
		if err := tc.ender.Hangup(); err != nil {
			t.Fatal(err)
		}
		ea, eb := a.expect(sip.Ended), b.expect(sip.Ended)
		if ea.Reason != tc.endA || eb.Reason != tc.endB {
			t.Errorf("%s ends: reasons %q and %q, want %q and %q", tc.name, ea.Reason, eb.Reason, tc.endA, tc.endB)
		}
		if r := ea.Call; r.CallID != eb.Call.CallID || !r.Outgoing || r.Answered.IsZero() || r.Codec != "G722" || r.Sent != 7 {
			t.Errorf("record %+v", r)
		}
	}
}

func TestCancelRejectBusyAbsent(t *testing.T) {
	l := newLab(t)
	a, b, c := l.good("PHONE-A", "100"), l.good("PHONE-B", "101"), l.good("PHONE-C", "102")
	dial := func(from *phone) {
		t.Helper()
		if err := from.Dial(context.Background(), "101"); err != nil {
			t.Fatal(err)
		}
	}
	ends := func(p *phone, want string) {
		t.Helper()
		if e := p.expect(sip.Ended); e.Reason != want {
			t.Errorf("reason %q, want %q", e.Reason, want)
		}
	}
	dial(a)
	b.expect(sip.RingingIn)
	a.expect(sip.RingingOut)
	dial(c) // b is ringing: busy
	ends(c, "busy")
	if err := a.Hangup(); err != nil { // CANCEL
		t.Fatal(err)
	}
	ends(a, "hangup")
	ends(b, "peer hangup")

	dial(a)
	b.expect(sip.RingingIn)
	a.expect(sip.RingingOut)
	if err := b.Reject(); err != nil {
		t.Fatal(err)
	}
	ends(a, "busy")
	ends(b, "refused")

	if err := a.Dial(context.Background(), "199"); err != nil {
		t.Fatal(err)
	}
	ends(a, "no answer")
	if err := a.Dial(context.Background(), "1 9\r\nX: y"); !errors.Is(err, sip.ErrNumber) {
		t.Errorf("Dial of a header = %v, want %v", err, sip.ErrNumber)
	}
}

func TestRevokedPhoneLosesRegistrationAtOnce(t *testing.T) {
	l := newLab(t)
	a, b := l.good("PHONE-A", "100"), l.good("PHONE-B", "101")
	start := time.Now()
	if err := l.conn.Revoke(context.Background(), "PHONE-B"); err != nil {
		t.Fatal(err)
	}
	b.expect(sip.Unregistered)
	if took := time.Since(start); took > time.Second {
		t.Errorf("registration lost after %v, want under 1 s", took)
	}
	if e := b.expect(sip.Unregistered); !strings.Contains(e.Reason, "Device not allowed") {
		t.Errorf("second try: %q, want Device not allowed", e.Reason)
	}
	if err := a.Dial(context.Background(), "101"); err != nil {
		t.Fatal(err)
	}
	if e := a.expect(sip.Ended); e.Reason != "no answer" {
		t.Errorf("call to the revoked phone ends with %q", e.Reason)
	}
	l.allow("PHONE-B", "101")
	for e := range b.events {
		if e.Kind == sip.Registered {
			break
		}
	}
}

func TestCallServerRestart(t *testing.T) {
	l := newLab(t)
	a, b := l.good("PHONE-A", "100"), l.good("PHONE-B", "101")
	if err := l.conn.Revoke(context.Background(), "PHONE-B"); err != nil {
		t.Fatal(err)
	}
	b.stop()
	l.server.Stop()
	a.expect(sip.Unregistered)
	l.start()
	start := time.Now()
	for e := range a.events {
		if e.Kind == sip.Registered {
			break
		}
	}
	t.Logf("registered again %v after the restart", time.Since(start))
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("registered again after %v", took)
	}
	x := l.phone("PHONE-B", "101", l.sipCA, sipCert("PHONE-B"))
	e := x.expect(sip.Unregistered)
	for strings.Contains(e.Reason, "503 Starting") {
		e = x.expect(sip.Unregistered)
	}
	if !strings.Contains(e.Reason, "Device not allowed") {
		t.Errorf("revocation did not survive the restart: %q", e.Reason)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	l := newLab(t)
	key := newKey(t)
	der := l.sipCA.issue(t, key, sipCert("PHONE-A"))
	conn, err := tls.Dial("tcp", l.site.Listen.String(), &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err == nil {
		conn.Close()
		t.Fatal("TLS 1.2 was accepted")
	}
	if !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v, want a protocol version alert", err)
	}
}
