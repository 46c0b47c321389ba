package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/translog"
	"ringfence/provisioning/wire/release"
)

// ringfence runs the tool and returns what it printed.
func ringfence(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return strings.TrimSpace(out.String()), err
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve runs a command that listens on address until the test ends.
func serve(t *testing.T, address string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		root := newRoot()
		root.SetErr(io.Discard)
		root.SetArgs(args)
		ended <- root.ExecuteContext(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ringfence %s: %v", strings.Join(args, " "), err)
		}
	})
	for range 100 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close() // it was only a knock
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("ringfence %s does not listen", strings.Join(args, " "))
}

// publish puts a file into the log of dir and leaves its proof beside it.
func publish(t *testing.T, dir, file string) {
	t.Helper()
	c, err := translog.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Interval = 100 * time.Millisecond
	l, err := translog.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	proof, err := l.Append(t.Context(), release.Entry{Target: "acme/" + filepath.Base(file), SHA256: hex.EncodeToString(sum[:]),
		Length: int64(len(data)), Release: "1.2.3", Sequence: 7})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".tlog-proof", proof, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The way of a log by the tool alone: witness init and run, log init, show,
// serve, monitor and verify.
func TestLogCommands(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(args ...string) string {
		t.Helper()
		out, err := ringfence(t, args...)
		if err != nil {
			t.Fatalf("ringfence %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	witnessKeyText := must("witness", "init", path("w1"), "--name", "w1.test")
	witnessAt, logAt := freeAddress(t), freeAddress(t)
	url := "http://" + witnessAt
	logKey := must("log", "init", path("log"), "--origin", "log.test/releases", "--witness", witnessKeyText+","+url)
	serve(t, witnessAt, "witness", "run", path("w1"), "--log", logKey, "--listen", witnessAt)
	if err := os.WriteFile(path("trust.json"), []byte(must("log", "show", path("log"))), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.efi", "b.efi"} {
		if err := os.WriteFile(path(name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		publish(t, path("log"), path(name))
		if name == "a.efi" {
			serve(t, logAt, "log", "serve", path("log"), "--listen", logAt)
		}
		out := must("log", "monitor", "http://"+logAt+"/", "--trust", path("trust.json"), "--state", path("seen.json"))
		if lines := strings.Split(out, "\n"); len(lines) != 2 || !strings.Contains(lines[0], "acme/"+name) {
			t.Errorf("log monitor printed %q, want the one new release %s", out, name)
		}
	}
	verify := func(file, proof string) error {
		_, err := ringfence(t, "log", "verify", path(file), "--proof", path(proof)+".tlog-proof", "--trust", path("trust.json"))
		return err
	}
	if err := verify("a.efi", "a.efi"); err != nil {
		t.Errorf("log verify = %v, want nil", err)
	}
	if err := verify("a.efi", "b.efi"); err == nil {
		t.Error("log verify of another file = nil, want an error")
	}
	for _, args := range [][]string{
		{"witness", "init", path("w1"), "--name", "w1.test"}, // never replaces a key
		{"log", "init", path("log"), "--origin", "log.test/releases", "--witness", witnessKeyText + "," + url},
		{"log", "init", path("new"), "--origin", "log.test/releases", "--witness", witnessKeyText},
		{"log", "init", path("new"), "--origin", "log.test/releases", "--witness", logKey + "," + url},
		{"log", "init", path("new"), "--origin", "log.test/releases", "--witness", witnessKeyText + "," + url, "--quorum", "2"},
	} {
		if _, err := ringfence(t, args...); err == nil {
			t.Errorf("ringfence %s = nil, want an error", strings.Join(args, " "))
		}
	}
}
