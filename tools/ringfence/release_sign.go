package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"ringfence/provisioning/release"
)

// signFlags are those of sign and approve.
type signFlags struct{ key, root, image string }

func (f *signFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.key, "key", "", "key file or KMS URI")
	cmd.Flags().StringVar(&f.root, "root", "", "root metadata that you know: a proposal on another one is refused")
	cmd.Flags().StringVar(&f.image, "image", "", "an image of your own build, to be the one that you sign")
	require(cmd, "key")
}

func newReleaseSignCommand() *cobra.Command {
	f := new(signFlags)
	cmd := &cobra.Command{Use: "sign PROPOSAL", Short: "Add your signature to a proposal", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.sign(cmd, args[0]) }}
	f.register(cmd)
	return cmd
}

// newReleaseApproveCommand is sign for the person who comes after: it insists
// on an image of one's own and on somebody else's signature.
func newReleaseApproveCommand() *cobra.Command {
	f := new(signFlags)
	cmd := &cobra.Command{Use: "approve PROPOSAL", Short: "Sign what another person has signed, after comparing it with an image of your own build", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := readProposal(args[0])
			if err != nil {
				return err
			}
			s, err := p.Show()
			if err != nil {
				return err
			}
			if p.Image == nil || !slices.ContainsFunc(s.Documents, func(d release.DocumentSummary) bool { return d.Has > 0 }) {
				return errors.New("nobody has signed this release yet: approve is for the person after the first (ringfence release sign)")
			}
			return f.sign(cmd, args[0])
		}}
	f.register(cmd)
	require(cmd, "image")
	return cmd
}

func (f *signFlags) sign(cmd *cobra.Command, name string) error {
	p, err := readProposal(name)
	if err != nil {
		return err
	}
	var pinned []byte
	if f.root != "" {
		if pinned, err = os.ReadFile(f.root); err != nil {
			return err
		}
	}
	if err := f.compare(cmd, p); err != nil {
		return err
	}
	s, err := release.OpenSigner(cmd.Context(), f.key, askPassword(cmd, f.key))
	if err != nil {
		return err
	}
	if err := p.Sign(s, pinned); err != nil {
		return err
	}
	return writeProposal(cmd, name, p)
}

// compare holds the signer's own image against the proposed one.
func (f *signFlags) compare(cmd *cobra.Command, p *release.Proposal) error {
	if p.Image == nil {
		if f.image != "" {
			return errors.New("the proposal has no image to compare with")
		}
		return nil
	}
	if f.image == "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "note: the digest is signed as proposed; with --image FILE it is compared with an image of your own build")
		return nil
	}
	s, err := p.Show()
	if err != nil {
		return err
	}
	own, err := os.Open(f.image)
	if err != nil {
		return err
	}
	defer own.Close()
	h := sha256.New()
	if _, err := io.Copy(h, own); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != s.Image.SHA256 {
		return fmt.Errorf("your image has digest %.16s, the proposal %.16s: do not sign", got, s.Image.SHA256)
	}
	return nil
}

// newReleaseRotateCommand proposes other people or online keys.
func newReleaseRotateCommand() *cobra.Command {
	var model, online, out string
	var remove, add []string
	var threshold int
	cmd := &cobra.Command{
		Use:   "rotate REPO",
		Short: "Propose other owners, other signers of a model, or another online key",
		Long: `Propose other people: without --model the owners of the repository, with it those who release for the model
(a model without signers yet is made). With --online the key of snapshot or timestamp is replaced; set
the new key in repository.json before publishing. Without --add and --remove the documents are renewed as they
are, for another term.`,
		Example: `  ringfence release rotate repo --remove olga --add oona=oona.pub --out rotate.json
  ringfence release rotate repo --model acme/virt64 --remove erin --add gina=gina.pub --out rotate.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := release.Open(args[0])
			if err != nil {
				return err
			}
			c := release.Change{Remove: remove, Now: time.Now()}
			if c.Add, err = parsePeople(add); err != nil {
				return err
			}
			p, err := proposeChange(repo, model, online, threshold, c)
			if err != nil {
				return err
			}
			return writeProposal(cmd, out, p)
		},
	}
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "MANUFACTURER/MODEL")
	f.StringVar(&online, "online", "", "snapshot or timestamp; its new key is the one --add")
	f.StringArrayVar(&remove, "remove", nil, "NAME of a person to remove; may be given again")
	f.StringArrayVar(&add, "add", nil, "NAME=PUBLIC-KEY-FILE of a person to add; may be given again")
	f.IntVar(&threshold, "threshold", 0, "how many of the model's people must sign (default: as before)")
	f.StringVar(&out, "out", "rotate.json", "proposal to write")
	return cmd
}

func proposeChange(repo *release.Repository, model, online string, threshold int, c release.Change) (*release.Proposal, error) {
	if online != "" {
		if len(c.Add) != 1 || len(c.Remove) != 0 || model != "" {
			return nil, errors.New("--online goes with exactly one --add and nothing else")
		}
		return repo.ProposeOnline(online, c.Add[0], c.Now)
	}
	if model == "" {
		return repo.ProposeOwners(c)
	}
	manufacturer, name, err := parseModel(model)
	if err != nil {
		return nil, err
	}
	return repo.ProposeSigners(manufacturer, name, threshold, c)
}

func newReleaseRefreshCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "refresh REPO",
		Short: "Sign a new timestamp (and snapshot, when due) with the online keys; to be run every few hours",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := release.Open(args[0])
			if err != nil {
				return err
			}
			for {
				err := repo.Refresh(cmd.Context(), askPassword(cmd, "the online keys"), time.Now())
				if err != nil || every <= 0 {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(every):
				}
			}
		},
	}
	cmd.Flags().DurationVar(&every, "every", 0, "go on, and sign again after this long, such as 6h")
	return cmd
}

func newReleaseExportCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export REPO TARGET",
		Short: "Write an image with its bundles, public keys and trusted_root.json, for cosign",
		Long: `Write an image with its bundles, public keys and trusted_root.json. Anyone checks it with
  cosign verify-blob --key KEYID.pub --bundle IMAGE.KEYID.sigstore.json --trusted-root trusted_root.json --private-infrastructure IMAGE
or, with openssl alone,
  jq -r .messageSignature.signature IMAGE.KEYID.sigstore.json | base64 -d > sig
  openssl dgst -sha256 -verify KEYID.pub -signature sig IMAGE`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			repo, err := release.Open(args[0])
			if err != nil {
				return err
			}
			return repo.Export(args[1], out)
		},
	}
	cmd.Flags().StringVar(&out, "out", ".", "folder to write to")
	return cmd
}
