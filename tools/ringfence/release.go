package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ringfence/provisioning/release"
	"ringfence/provisioning/translog"
	"ringfence/tools/image"
)

// newReleaseCommand is "ringfence release ...": from an image to an update
// that phones accept. People pass one file, the proposal, between them.
func newReleaseCommand() *cobra.Command {
	group := &cobra.Command{Use: "release", Short: "Sign, approve and publish firmware releases", Args: cobra.NoArgs,
		Long: `Sign, approve and publish firmware releases.

Two people on two machines complete a release by exchanging one file:
  ringfence release add REPO ... --out release.json      whoever has the repository
  ringfence release sign release.json --key dora.key     the first person
  ringfence release approve release.json --key erin.key --image FILE   another one, with an image of their own build
  ringfence release publish REPO release.json --image FILE --log LOG

A --key is an encrypted key file, or a URI: pkcs11://TOKEN/LABEL (program
sigstore-kms-pkcs11), or any other KMS that has a sigstore plugin. Passwords come from
$RINGFENCE_KEY_PASSWORD or the terminal.`}
	group.AddCommand(newReleaseInitCommand(), newReleaseKeyCommand(), newReleaseRotateCommand(), newReleaseAddCommand(),
		newReleaseSignCommand(), newReleaseApproveCommand(), newReleasePublishCommand(), newReleaseRefreshCommand(),
		newReleaseShowCommand(), newReleaseExportCommand(), newReleaseTrustCommand(), newReleaseVerifyCommand())
	return group
}

// askPassword reads the environment or the terminal.
func askPassword(cmd *cobra.Command, what string) release.Password {
	return func() ([]byte, error) {
		if p := os.Getenv("RINGFENCE_KEY_PASSWORD"); p != "" {
			return []byte(p), nil
		}
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return nil, errors.New("no terminal to ask for the password: set RINGFENCE_KEY_PASSWORD")
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "password of %s: ", what)
		p, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return p, err
	}
}

func newReleaseKeyCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make a signing key: NAME.key (encrypted, also for cosign) and NAME.pub",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := makeKey(cmd, out); err != nil {
				return err
			}
			return report(cmd, map[string]string{"private": out + ".key", "public": out + ".pub"}, out+".key and "+out+".pub")
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "path of the two files, without ending")
	require(cmd, "out")
	return cmd
}

func makeKey(cmd *cobra.Command, out string) error {
	password, err := askPassword(cmd, "the new key "+out)()
	if err != nil {
		return err
	}
	private, public, err := release.NewKey(password)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(out+".key", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // a key is never replaced
	if err != nil {
		return err
	}
	if _, err = f.Write(private); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.WriteFile(out+".pub", public, 0o644)
}

func require(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // programmer error: no such flag
		}
	}
}

func newReleaseInitCommand() *cobra.Command {
	var owners, signers []string
	var model, out string
	var threshold int
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make an update repository with its online keys; writes the proposal that its owners must sign",
		Example: `  ringfence release init repo --owner olga=olga.pub --owner omar=omar.pub --owner otto=otto.pub \
      --model acme/virt64 --signer dora=dora.pub --signer erin=erin.pub --out setup.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := release.Setup{Now: time.Now()}
			var err error
			if s.Owners, err = parsePeople(owners); err != nil {
				return err
			}
			d := release.Delegation{Threshold: threshold}
			if d.Manufacturer, d.Model, err = parseModel(model); err != nil {
				return err
			}
			if d.Signers, err = parsePeople(signers); err != nil {
				return err
			}
			s.Delegations = []release.Delegation{d}
			return runReleaseInit(cmd, args[0], out, s)
		},
	}
	cmd.Flags().StringArrayVar(&owners, "owner", nil, "NAME=PUBLIC-KEY-FILE of an owner, at least three; two sign")
	cmd.Flags().StringVar(&model, "model", "", "MANUFACTURER/MODEL")
	cmd.Flags().StringArrayVar(&signers, "signer", nil, "NAME=PUBLIC-KEY-FILE of a person who releases for the model")
	cmd.Flags().IntVar(&threshold, "threshold", 2, "how many of them must sign")
	cmd.Flags().StringVar(&out, "out", "setup.json", "proposal to write")
	require(cmd, "owner", "model", "signer")
	return cmd
}

func runReleaseInit(cmd *cobra.Command, dir, out string, s release.Setup) error {
	if err := os.MkdirAll(filepath.Join(dir, "online"), 0o700); err != nil {
		return err
	}
	for role, p := range map[string]*release.Person{"snapshot": &s.Snapshot, "timestamp": &s.Timestamp} {
		file := filepath.Join(dir, "online", role)
		if err := makeKey(cmd, file); err != nil {
			return err
		}
		var err error
		if *p, err = release.ParsePerson(role + "=" + file + ".pub"); err != nil {
			return err
		}
	}
	p, err := release.NewSetup(s)
	if err != nil {
		return err
	}
	if _, err := release.Create(dir, release.Settings{Schema: 1, Snapshot: "online/snapshot.key", Timestamp: "online/timestamp.key"}); err != nil {
		return err
	}
	return writeProposal(cmd, out, p)
}

func parsePeople(list []string) ([]release.Person, error) {
	var out []release.Person
	for _, text := range list {
		p, err := release.ParsePerson(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parseModel(s string) (manufacturer, model string, err error) {
	manufacturer, model, ok := strings.Cut(s, "/")
	if !ok || manufacturer == "" || model == "" {
		return "", "", fmt.Errorf("model %q: want MANUFACTURER/MODEL", s)
	}
	return manufacturer, model, nil
}

// writeProposal puts the file in place as a whole and says whose turn it is.
func writeProposal(cmd *cobra.Command, name string, p *release.Proposal) error {
	raw, err := p.Marshal()
	if err != nil {
		return err
	}
	temp := name + ".new"
	if err := os.WriteFile(temp, raw, 0o644); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	s, err := p.Show()
	if err != nil {
		return err
	}
	return show(cmd, s, func(w io.Writer) { printSummary(w, name, s) })
}

func readProposal(name string) (*release.Proposal, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, release.MaxProposal+1))
	if err != nil {
		return nil, err
	}
	return release.ParseProposal(raw)
}

func printSummary(w io.Writer, name string, s *release.Summary) {
	if i := s.Image; i != nil {
		fmt.Fprintf(w, "%s\n  release %s, sequence %d, model %s, hardware %s\n  %d bytes, SHA-256 %s\n",
			i.Target, i.Custom.Release, i.Custom.Sequence, i.Custom.Model, strings.Join(i.Custom.Hardware, " "), i.Length, i.SHA256)
	}
	for _, d := range s.Documents {
		fmt.Fprintf(w, "%s version %d, expires %s: %d of %d signatures\n", d.Role, d.Version, d.Expires.Format(time.DateOnly), d.Has, d.Needs)
		for _, p := range d.Signers {
			mark := " "
			if p.Signed {
				mark = "x"
			}
			fmt.Fprintf(w, "  [%s] %s (%.8s)\n", mark, p.Person, p.Key)
		}
	}
	if s.Complete {
		fmt.Fprintf(w, "complete: ringfence release publish REPO %s\n", name)
	} else {
		fmt.Fprintf(w, "another person must sign: ringfence release sign %s --key KEY\n", name)
	}
}

func newReleaseAddCommand() *cobra.Command {
	var model, imageFile, reference, manufacturer, version, out string
	var hardware []string
	var sequence uint64
	cmd := &cobra.Command{
		Use:   "add REPO",
		Short: "Propose a release: writes the file that its signers pass to each other",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := release.Release{Hardware: hardware, Version: version, Sequence: sequence, Now: time.Now()}
			var err error
			if r.Manufacturer, r.Model, err = parseModel(model); err != nil {
				return err
			}
			if r.Image, err = os.ReadFile(imageFile); err != nil {
				return err
			}
			if r.Reference, err = os.ReadFile(reference); err != nil {
				return err
			}
			key, err := image.Manufacturer(manufacturer).ReleaseKey()
			if err != nil {
				return err
			}
			r.ReferenceKey = key.Public()
			repo, err := release.Open(args[0])
			if err != nil {
				return err
			}
			p, err := repo.ProposeRelease(r)
			if err != nil {
				return err
			}
			return writeProposal(cmd, out, p)
		},
	}
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "MANUFACTURER/MODEL")
	f.StringVar(&version, "release", "", "version, major.minor.patch")
	f.Uint64Var(&sequence, "sequence", 0, "greater than that of every release of the model before")
	f.StringArrayVar(&hardware, "hardware", nil, "hardware revision that may run it; may be given again")
	f.StringVar(&imageFile, "image", "", "signed UKI (ringfence image build)")
	f.StringVar(&reference, "reference", "", "its signed reference values")
	f.StringVar(&manufacturer, "manufacturer", "", "manufacturer directory, whose release key signed them")
	f.StringVar(&out, "out", "release.json", "proposal to write")
	require(cmd, "model", "release", "sequence", "hardware", "image", "reference", "manufacturer")
	return cmd
}

// openLog opens the release log of a folder; the caller closes it.
func openLog(cmd *cobra.Command, dir string) (*translog.Log, error) {
	c, err := translog.Load(dir)
	if err != nil {
		return nil, err
	}
	return translog.Open(cmd.Context(), c)
}

func newReleasePublishCommand() *cobra.Command {
	var imageFile, log string
	cmd := &cobra.Command{
		Use:   "publish REPO PROPOSAL",
		Short: "Put a complete proposal in force; a release also goes into the release log",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			repo, err := release.Open(args[0])
			if err != nil {
				return err
			}
			p, err := readProposal(args[1])
			if err != nil {
				return err
			}
			pub := release.Publication{Password: askPassword(cmd, "the online keys"), Now: time.Now()}
			if p.Image != nil {
				if pub.Image, err = os.ReadFile(imageFile); err != nil {
					return fmt.Errorf("%w (a release is published with --image and --log)", err)
				}
				l, err := openLog(cmd, log)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, l.Close()) }()
				pub.Log = l
			}
			if err := repo.Publish(cmd.Context(), p, pub); err != nil {
				return err
			}
			list, err := repo.Released()
			if err != nil {
				return err
			}
			return report(cmd, list, fmt.Sprintf("published; the repository has %d releases", len(list)))
		},
	}
	cmd.Flags().StringVar(&imageFile, "image", "", "image of the release")
	cmd.Flags().StringVar(&log, "log", "", "folder of the release log (ringfence log init)")
	return cmd
}

func newReleaseShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE|REPO",
		Short: "Show a proposal, or the releases of a repository",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if info, err := os.Stat(args[0]); err == nil && !info.IsDir() {
				p, err := readProposal(args[0])
				if err != nil {
					return err
				}
				s, err := p.Show()
				if err != nil {
					return err
				}
				return show(cmd, s, func(w io.Writer) { printSummary(w, args[0], s) })
			}
			repo, err := release.Open(args[0])
			if err != nil {
				return err
			}
			list, err := repo.Released()
			if err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(list)
			}
			for _, i := range list {
				fmt.Fprintf(cmd.OutOrStdout(), "%s  sequence %d  %.16s  %d signers\n", i.Target, i.Custom.Sequence, i.SHA256, len(i.Bundles))
			}
			return nil
		},
	}
}
