package segment

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"ringfence/tools/tooltest"
)

// TestTAP runs itself again inside a user and network namespace of its own.
func TestTAP(t *testing.T) {
	if os.Getenv("RINGFENCE_IN_NAMESPACE") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestTAP$", "-test.v")
		cmd.Env = append(os.Environ(), "RINGFENCE_IN_NAMESPACE=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("in the namespace: %v\n%s", err, out)
		}
		t.Logf("%s", out)
		return
	}
	s := newSegment(t)
	if err := s.AttachTAP("tap0"); err != nil {
		tooltest.Missingf(t, "no TAP can be made here: %v", err)
	}
	for _, args := range [][]string{{"addr", "add", "10.77.0.1/24", "dev", "tap0"}, {"link", "set", "tap0", "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v %s", args, err, out)
		}
	}
	c := plug(t, s, "card")
	conn, err := net.Dial("udp", "10.77.0.9:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	arp := func(frame []byte) bool { return frame[12] == 8 && frame[13] == 6 }
	for timeout := time.After(5 * time.Second); ; {
		select {
		case frame := <-c.got:
			if arp(frame) {
				c.send(append(append([]byte{}, frame[6:12]...), append([]byte{2, 0, 0, 0, 0, 9}, // reply: 10.77.0.9 is at 02:..:09
					8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9, 10, 77, 0, 9,
					frame[6], frame[7], frame[8], frame[9], frame[10], frame[11], 10, 77, 0, 1)...))
			} else if frame[12] == 8 && frame[13] == 0 && frame[23] == 17 {
				return // the datagram: both directions work
			}
		case <-timeout:
			t.Fatal("no datagram arrived from the TAP")
		}
	}
}
