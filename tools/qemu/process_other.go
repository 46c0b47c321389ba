//go:build !linux

package qemu

import (
	"errors"
	"net"
	"os"
	"os/exec"
)

func own(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) error { return cmd.Process.Kill() }

func socketPair() (*net.UnixConn, *os.File, error) {
	return nil, nil, errors.ErrUnsupported
}

func dbusPair() (*net.UnixConn, *os.File, error) {
	return nil, nil, errors.ErrUnsupported
}

func rights(int) []byte { return nil }

func credentials() []byte { return nil }

func lockFile(string) (func(), error) { return nil, errors.ErrUnsupported }
