package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"ringfence/provisioning/ca"
)

func start(t *testing.T, limit int) (string, *tls.Config) {
	t.Helper()
	return startWith(t, limit, 0)
}

func startWith(t *testing.T, limit, perAddress int) (string, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.NewRoot("owner", key, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Server([]string{"localhost"}, key.Public(), time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Certificate: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, MaxConns: limit, MaxPerAddress: perAddress,
		HTTP:        http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "web") }),
		ConnContext: func(ctx context.Context) context.Context { return ctx }, StreamProtocol: "s/1",
		Streams: func(_ context.Context, c *tls.Conn) { _, _ = io.WriteString(c, "stream"); c.Close() },
		Log:     slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return listener.Addr().String(), &tls.Config{RootCAs: root.Pool(), ServerName: "localhost"}
}

func TestDispatch(t *testing.T) {
	addr, cfg := start(t, 8)
	cfg.NextProtos = []string{"s/1"}
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "stream" || err != nil {
		t.Errorf("stream = %q, %v", got, err)
	}
	web := cfg.Clone()
	web.NextProtos = []string{"http/1.1"}
	rsp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: web}}).Get("https://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	if got, err := io.ReadAll(rsp.Body); string(got) != "web" || err != nil {
		t.Errorf("web = %q, %v", got, err)
	}
	cfg.NextProtos = []string{"other/1"}
	if _, err := tls.Dial("tcp", addr, cfg); err == nil {
		t.Error("an unknown protocol is accepted")
	}
}

// TestLimit: idle strangers take the slots, no more than the limit; when they
// go, service comes back.
func TestLimit(t *testing.T) {
	addr, cfg := start(t, 2)
	var idle []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	if _, err := tls.Dial("tcp", addr, cfg); err == nil {
		t.Error("a third connection is served")
	}
	for _, c := range idle {
		c.Close()
	}
	for range 100 {
		if c, err := tls.Dial("tcp", addr, cfg); err == nil {
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the slots are not given back")
}

// TestLimitPerAddress: one address cannot take the slots of the others, and a
// stream does not count.
func TestLimitPerAddress(t *testing.T) {
	addr, cfg := startWith(t, 8, 2)
	var idle []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	if _, err := tls.Dial("tcp", addr, cfg); err == nil {
		t.Error("a third connection of one address is served")
	}
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := tls.DialWithDialer(&other, "tcp", addr, cfg)
	if err != nil {
		t.Fatalf("another address: %v", err)
	}
	c.Close()
	idle[0].Close()
	streams := cfg.Clone()
	streams.NextProtos = []string{"s/1"}
	for n := 0; n < 5; { // each gives its place back when it becomes a stream
		c, err := tls.Dial("tcp", addr, streams)
		if err == nil {
			defer c.Close()
			n++
		} else if time.Sleep(20 * time.Millisecond); t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}
