package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ringfence/firmware/update/tuf"
	"ringfence/provisioning/release"
	"ringfence/provisioning/translog"
	wire "ringfence/provisioning/wire/release"
)

// newReleaseTrustCommand prints what an image must hold to accept releases.
func newReleaseTrustCommand() *cobra.Command {
	var log string
	cmd := &cobra.Command{
		Use:   "trust REPO",
		Short: "Print what phones must trust to accept this repository's releases: root, log and witnesses",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := release.Open(args[0])
			if err != nil {
				return err
			}
			c, err := translog.Load(log)
			if err != nil {
				return err
			}
			t := wire.Trust{Quorum: c.Quorum}
			if t.Log, err = c.Key.LogKey(); err != nil {
				return err
			}
			for _, w := range c.Witnesses {
				t.Witnesses = append(t.Witnesses, w.Key)
			}
			if t.Root, err = repo.Root(); err != nil {
				return err
			}
			raw, err := json.Marshal(t)
			if err != nil {
				return err
			}
			if _, err := wire.ParseTrust(raw); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), string(raw))
			return err
		},
	}
	cmd.Flags().StringVar(&log, "log", "", "folder of the release log")
	require(cmd, "log")
	return cmd
}

// loopback serves the handler on a port of this machine until it is closed.
func loopback(h http.Handler) (address string, closer func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	return "http://" + l.Addr().String(), func() error {
		err := s.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

// verified is what verify found.
type verified struct {
	Target   string      `json:"target"`
	Length   int64       `json:"length"` // bytes
	SHA256   string      `json:"sha256"`
	Custom   wire.Custom `json:"custom"`
	RootUsed int64       `json:"root_version"`
}

func newReleaseVerifyCommand() *cobra.Command {
	var trustFile string
	cmd := &cobra.Command{
		Use:   "verify REPO TARGET",
		Short: "Verify a published release as a phone does: signatures, expiry, content, log proof",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := verifyRelease(cmd, args[0], args[1], trustFile)
			if err != nil {
				return err
			}
			return report(cmd, v, fmt.Sprintf("%s is release %s (sequence %d), signed by enough people and in the log", v.Target, v.Custom.Release, v.Custom.Sequence))
		},
	}
	cmd.Flags().StringVar(&trustFile, "trust", "", "trust document of the phones (ringfence release trust)")
	require(cmd, "trust")
	return cmd
}

func verifyRelease(cmd *cobra.Command, dir, target, trustFile string) (v *verified, err error) {
	raw, err := os.ReadFile(trustFile)
	if err != nil {
		return nil, err
	}
	trust, err := wire.ParseTrust(raw)
	if err != nil {
		return nil, err
	}
	handler, closer, err := release.Handler(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer()) }()
	store, err := os.MkdirTemp("", "ringfence-verify-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(store)) }()
	host, stop, err := loopback(handler)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	client := &http.Client{Timeout: time.Minute}
	c, err := tuf.New(tuf.Config{Root: trust.Root, Store: tuf.Dir(store), HTTP: client, Clock: func() (time.Time, bool) { return time.Now(), true },
		MetadataURL: host + wire.PathMetadata, TargetsURL: host + wire.PathTargets})
	if err != nil {
		return nil, err
	}
	t, err := c.Target(cmd.Context(), target)
	if err != nil {
		return nil, err
	}
	if err := c.Download(cmd.Context(), t, io.Discard, nil); err != nil {
		return nil, err
	}
	custom, err := wire.ParseCustom(t.Custom)
	if err != nil {
		return nil, err
	}
	entry := wire.Entry{Target: target, SHA256: t.SHA256(), Length: t.Length, Release: custom.Release, Sequence: custom.Sequence}
	if err := verifyProof(client, host+wire.PathProofs+target, entry, trust); err != nil {
		return nil, err
	}
	return &verified{target, t.Length, t.SHA256(), *custom, c.RootVersion()}, nil
}

func verifyProof(client *http.Client, address string, entry wire.Entry, trust *wire.Trust) error {
	resp, err := client.Get(address)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("log proof: HTTP status %d", resp.StatusCode)
	}
	proof, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	return wire.VerifyProof(proof, entry, trust)
}
