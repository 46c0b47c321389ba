package network

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"ringfence/provisioning/wire/report"
)

func TestSockets(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
			"   0: 14004D0A:D431 01004D0A:20FB 01 00000000:00000000 02:00000A51 00000000   102        0 1027 2\n" +
			"   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1028 1\n",
		"packet": "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n0000000000000000 3      3    0800   2     1 0      101    990\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []report.Socket{
		{Proto: "tcp", Local: "10.77.0.20:54321", Remote: "10.77.0.1:8443", State: "established", UID: 102},
		{Proto: "tcp", Local: "0.0.0.0:8080", Remote: "0.0.0.0:0", State: "listen", UID: 0},
		{Proto: "packet", Local: "ethertype 0800 interface 2", State: "type 3", UID: 101},
	}
	got, err := Sockets(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Sockets = %+v, %v, want %+v", got, err, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "udp"), []byte("head\n nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Sockets(dir); err == nil {
		t.Error("Sockets of a broken table succeeded, want an error")
	}
}
