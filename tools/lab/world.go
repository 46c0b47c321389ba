package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"ringfence/tools/qemu"
	"ringfence/tools/segment"
)

// World is one manufacturer, one owner and one network segment.
type World struct {
	Root         string // the repository
	Dir          string // everything the lab writes
	Tools        Tools
	Board        qemu.Spec
	Segment      *segment.Segment
	TPMs         *qemu.TPMAuthority
	Manufacturer *Manufacturer
	Site         *Site

	dnsmasq *Process
	phones  int
}

// Capture is where the segment's traffic is recorded (pcap).
func (w *World) Capture() string { return filepath.Join(w.Dir, "segment.pcap") }

// New prepares dir: tools, keys, the segment with its TAP device, DHCP and
// DNS. The caller calls Close.
func New(ctx context.Context, root, dir, board string) (*World, error) {
	if !InNamespace() {
		return nil, errors.New("the lab runs in a namespace of its own: start it with scripts/namespace")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	w := &World{Root: root, Dir: dir}
	var err error
	if w.Board, err = qemu.LoadSpec(filepath.Join(root, "boards", board, "qemu.toml")); err != nil {
		return nil, err
	}
	if w.Tools, err = BuildTools(ctx, root, filepath.Join(dir, "bin")); err != nil {
		return nil, err
	}
	if w.Manufacturer, err = NewManufacturer(ctx, w.Tools, root, filepath.Join(dir, "manufacturer")); err != nil {
		return nil, err
	}
	if w.TPMs, err = qemu.NewTPMAuthority(filepath.Join(dir, "tpm-authority")); err != nil {
		return nil, err
	}
	if err := w.startNetwork(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *World) startNetwork(ctx context.Context) (err error) {
	w.Segment = segment.New(segment.Config{Seed: 1})
	if err := w.Segment.StartCapture(w.Capture()); err != nil {
		return err
	}
	if err := w.Segment.AttachTAP(Tap); err != nil {
		return err
	}
	if err := setupInterfaces(ctx); err != nil {
		return err
	}
	w.dnsmasq, err = startDNSMasq(ctx, w.Dir)
	return err
}

// NewSite makes and starts the owner's servers.
func (w *World) NewSite(ctx context.Context) (err error) {
	if w.Site, err = NewSite(ctx, w.Tools, filepath.Join(w.Dir, "site")); err != nil {
		return err
	}
	return w.Site.Start(ctx)
}

// Close ends every server and the segment. Phones end with the context that
// booted them.
func (w *World) Close() {
	if w.Site != nil {
		w.Site.Stop()
	}
	if w.dnsmasq != nil {
		w.dnsmasq.Stop()
	}
	if w.Segment != nil {
		_ = w.Segment.Close() // only ends; the capture was flushed frame by frame
	}
}

// ekRoots writes the certificates that vouch for the lab's TPMs.
func (w *World) ekRoots() (string, error) {
	roots, err := w.TPMs.Roots()
	if err != nil {
		return "", err
	}
	issuing, err := w.TPMs.Intermediates()
	if err != nil {
		return "", err
	}
	path := filepath.Join(w.Dir, "ek-roots.pem")
	return path, os.WriteFile(path, append(roots, issuing...), 0o644)
}
