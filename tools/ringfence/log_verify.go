package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ringfence/provisioning/wire/release"
)

func newLogVerifyCommand() *cobra.Command {
	var trustFile, proofFile string
	var e release.Entry
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check by its proof, as a phone does, that a file is in the release log",
		Long: `Check by its proof, as a phone does, that a file is in the release log. Name, release and sequence are taken
from the proof unless they are given; size and digest are always the file's.`,
		Example: "  ringfence log verify phone.efi --proof phone.efi.tlog-proof --trust trust.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := readLogTrust(trustFile)
			if err != nil {
				return err
			}
			proof, err := os.ReadFile(proofFile)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			if err := complete(&e, proof, cmd.Flags().Changed); err != nil {
				return err
			}
			hash := sha256.New()
			if e.Length, err = io.Copy(hash, f); err != nil {
				return err
			}
			e.SHA256 = hex.EncodeToString(hash.Sum(nil))
			if err := release.VerifyProof(proof, e, trust); err != nil {
				return err
			}
			return show(cmd, e, func(w io.Writer) {
				fmt.Fprintf(w, "%s is in the log as %s, release %s, sequence %d\n", args[0], e.Target, e.Release, e.Sequence)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&trustFile, "trust", "", "log key, witnesses and quorum (ringfence log show)")
	f.StringVar(&proofFile, "proof", "", "the release's proof (C2SP tlog-proof)")
	f.StringVar(&e.Target, "target", "", "name of the file in the log")
	f.StringVar(&e.Release, "release", "", "release number")
	f.Uint64Var(&e.Sequence, "sequence", 0, "sequence number")
	for _, name := range []string{"trust", "proof"} {
		_ = cmd.MarkFlagRequired(name) // errs only for a flag that does not exist
	}
	return cmd
}

// complete takes from the proof what the caller did not give. What the proof
// says of itself is checked by VerifyProof afterwards.
func complete(e *release.Entry, proof []byte, given func(string) bool) error {
	if given("target") && given("release") && given("sequence") {
		return nil
	}
	p, err := release.UntrustedParseProof(proof)
	if err != nil {
		return err
	}
	named, err := release.UntrustedParseEntry(p.UntrustedLeaf)
	if err != nil {
		return errors.Join(errors.New("the proof does not say what it is for: give --target, --release and --sequence"), err)
	}
	if !given("target") {
		e.Target = named.Target
	}
	if !given("release") {
		e.Release = named.Release
	}
	if !given("sequence") {
		e.Sequence = named.Sequence
	}
	return nil
}
