package intercom

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type text struct {
	Text string `json:"text"`
}

func serve(t *testing.T, users []int, h Handler) (path string, refused chan int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	refused = make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, users, h, func(uid int) { refused <- uid }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path, refused
}

func TestCall(t *testing.T) {
	path, _ := serve(t, []int{os.Getuid()}, func(_ context.Context, r *Request) (any, error) {
		switch r.Verb {
		case "echo":
			var in text
			err := r.Decode(&in)
			return in, err
		case "read":
			raw, err := io.ReadAll(r.Files[0])
			closeAll(r.Files)
			return text{string(raw)}, err
		case "push":
			return nil, r.Conn.Notify("pushed", text{"hello"})
		}
		return nil, errors.New("unknown verb")
	})
	told := make(chan string, 1)
	c, err := Dial(t.Context(), path, os.Getuid(), func(_ context.Context, r *Request) (any, error) {
		told <- r.Verb + string(r.Body)
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var out text
	if err := c.Call(t.Context(), "echo", text{"x"}, &out); err != nil || out.Text != "x" {
		t.Errorf("echo = %+v, %v", out, err)
	}
	var remote *RemoteError
	if err := c.Call(t.Context(), "nonsense", nil, nil); !errors.As(err, &remote) || remote.Reason != "unknown verb" {
		t.Errorf("nonsense = %v, want a refusal", err)
	}
	if err := c.Call(t.Context(), "echo", map[string]string{"other": "x"}, &out); err == nil || !strings.Contains(err.Error(), "unknown field") {
		t.Errorf("unknown field = %v, want a refusal", err)
	}
	r, w, _ := os.Pipe()
	_, _ = w.WriteString("through a descriptor")
	w.Close()
	if err := c.Call(t.Context(), "read", nil, &out, r); err != nil || out.Text != "through a descriptor" {
		t.Errorf("read = %+v, %v", out, err)
	}
	if err := c.Call(t.Context(), "push", nil, nil); err != nil {
		t.Error(err)
	}
	if got := <-told; got != `pushed{"text":"hello"}` {
		t.Errorf("notice %s", got)
	}
}

func TestRefusedUsers(t *testing.T) {
	path, refused := serve(t, []int{os.Getuid() + 1}, func(context.Context, *Request) (any, error) { return nil, nil })
	c, err := Dial(t.Context(), path, os.Getuid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if uid := <-refused; uid != os.Getuid() {
		t.Errorf("refused user %d, want %d", uid, os.Getuid())
	}
	if err := c.Call(t.Context(), "echo", nil, nil); err == nil {
		t.Error("call by a user that is not allowed succeeded")
	}
	if _, err := Dial(t.Context(), path, os.Getuid()+1, nil); !errors.Is(err, ErrPeer) {
		t.Errorf("Dial expecting another user = %v, want ErrPeer", err)
	}
}

func TestBadDatagrams(t *testing.T) {
	tests := []struct {
		name string
		raw  []byte
	}{
		{"not JSON", []byte("hello")},
		{"unknown field", []byte(`{"id":1,"verb":"echo","evil":1}`)},
		{"trailing data", []byte(`{"id":1,"verb":"echo"}{}`)},
		{"too large", append([]byte(`{"verb":"`), make([]byte, MaxMessage)...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, _ := serve(t, []int{os.Getuid()}, func(context.Context, *Request) (any, error) {
				t.Error("a bad datagram reached the handler")
				return nil, nil
			})
			sock, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
			if err != nil {
				t.Fatal(err)
			}
			defer sock.Close()
			_ = sock.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := sock.Write(tt.raw); err != nil {
				t.Fatal(err)
			}
			if n, err := sock.Read(make([]byte, 10)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read %d, %v: want the connection closed", n, err)
			}
		})
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"id":1,"verb":"echo","body":{"text":"x"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m message
		if json.Unmarshal(raw, &m) == nil && len(raw) <= MaxMessage {
			r := Request{Verb: m.Verb, Body: m.Body}
			_ = r.Decode(new(text)) // must not panic
		}
	})
}
