package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"ringfence/tools/lab"
)

func (d *demo) buildRelease(ctx context.Context, version, name string, extra ...string) (lab.Image, error) {
	return d.world.Manufacturer.BuildImage(ctx, d.board, version, filepath.Join(d.out, name), append(extra, "--trust", d.updates.Trust)...)
}

// signedByTwo: one person alone cannot publish; a second one completes it.
func (d *demo) signedByTwo(ctx context.Context) (_ string, err error) {
	d.rows.progress("building release 1.0.1")
	if d.good, err = d.buildRelease(ctx, "1.0.1", "image-1.0.1"); err != nil {
		return "", err
	}
	if d.release, err = d.updates.Propose(d.world.Manufacturer, d.good, d.board, "1.0.1", 2); err != nil {
		return "", err
	}
	if err := d.updates.Sign(d.release, 0); err != nil {
		return "", err
	}
	alone := d.updates.Enter(ctx, d.release)
	if alone == nil {
		return "", errors.New("one person alone published a release")
	}
	d.rows.progress("with one signature: %v", alone)
	return "1.0.1 by two people on one file; one alone was refused", d.updates.Sign(d.release, 1)
}

// logged: the release goes into the witnessed log and the repository, is
// verified as a phone does, and left for anybody to verify.
func (d *demo) logged(ctx context.Context) (string, error) {
	if err := d.updates.Enter(ctx, d.release); err != nil {
		return "", err
	}
	if err := d.updates.Verify(ctx, d.world.Tools, d.release.Target); err != nil {
		return "", err
	}
	dir := filepath.Join(d.out, "release")
	return "in the log, cosigned by a witness; for cosign and openssl: build/demo/release",
		d.updates.Export(ctx, d.world.Tools, d.release.Target, dir)
}

// rolledOut: phone A takes the release by itself: idle slot, one trial boot,
// proof, registration, commit.
func (d *demo) rolledOut(ctx context.Context) (string, error) {
	if _, err := d.world.Site.Admin(ctx, "reference", "import", d.good.Reference()); err != nil {
		return "", err
	}
	return d.rollOutToA(ctx, "1.0.1", d.release.Target, `update.committed release=1.0.1`)
}

// reverted: release 1.0.2 is signed and logged as well, but is not what its
// reference values say: it cannot prove itself, and the phone goes back.
func (d *demo) reverted(ctx context.Context) (string, error) {
	d.rows.progress("building release 1.0.2 and, as its reference values, those of another image")
	var err error
	// 40 s to prove itself instead of the product's five minutes: nobody wants to watch that.
	if d.bad, err = d.buildRelease(ctx, "1.0.2", "image-1.0.2", "--cmdline-extra", "ringfence.trial=40"); err != nil {
		return "", err
	}
	other, err := d.buildRelease(ctx, "1.0.2", "image-other", "--cmdline-extra", "ringfence.trial=41")
	if err != nil {
		return "", err
	}
	target, err := d.updates.Publish(ctx, d.world.Manufacturer, d.bad, d.board, "1.0.2", 3)
	if err != nil {
		return "", err
	}
	if _, err := d.world.Site.Admin(ctx, "reference", "import", other.Reference()); err != nil {
		return "", err
	}
	line, err := d.rollOutToA(ctx, "1.0.2", target, `update.reverted release=1.0.2`)
	if err != nil {
		return "", err
	}
	limit, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := d.world.Site.WaitState(limit, d.a.ID, "trusted"); err != nil {
		return "", fmt.Errorf("phone A after it went back: %w", err)
	}
	return line, nil
}

// rollOutToA starts a rollout to phone A and waits for how it ends.
func (d *demo) rollOutToA(ctx context.Context, version, target, end string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*bootLimit)
	defer cancel()
	err := lab.Poll(ctx, func() error { // the rollout before may still soak
		_, err := d.world.Site.Admin(ctx, "rollout", "start", version, "--target", target, "--ring", "lab="+d.a.ID, "--soak", "1s")
		return err
	})
	if err != nil {
		return "", err
	}
	match, err := d.a.Expect(ctx, `[^\n]*`+end+`[^\r\n]*`)
	if err != nil {
		return "", err
	}
	return match[0], nil
}
