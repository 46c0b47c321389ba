package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ringfence/tools/lab"
)

// replayedConfiguration: phone A accepts version 2, then an attacker puts back
// the disk of before. The floor in the TPM's NV memory refuses version 1.
func (d *demo) replayedConfiguration(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*bootLimit)
	defer cancel()
	d.a.PowerCut()
	old := d.a.Disk() + ".old"
	if err := lab.CopyDisk(old, d.a.Disk()); err != nil {
		return "", err
	}
	if err := d.world.Site.Configure(ctx, d.a.ID, "display.label=Second version"); err != nil {
		return "", err
	}
	if err := d.a.Boot(ctx); err != nil {
		return "", err
	}
	if _, err := d.a.Expect(ctx, `ringfence agent: configured [^\n]*version=2\b`); err != nil {
		return "", err
	}
	d.rows.progress("phone A runs version 2; now its disk of before is put back")
	d.a.PowerCut()
	if err := os.Rename(old, d.a.Disk()); err != nil {
		return "", err
	}
	if err := d.a.Boot(ctx); err != nil {
		return "", err
	}
	line, err := d.a.Expect(ctx, `ringfence agent: config.refused [^\r\n]*cause=version[^\r\n]*`)
	if err != nil {
		return "", err
	}
	return line[0], nil
}

// tamperedImage: phone B gets an image with one changed byte, once with the
// old signature and once signed again by a thief of the Secure Boot key.
func (d *demo) tamperedImage(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*bootLimit)
	defer cancel()
	d.b.PowerCut()
	bad := filepath.Join(d.out, "tampered.efi")
	if err := d.world.Manufacturer.Tamper(ctx, d.image, "initramfs", bad, false); err != nil {
		return "", err
	}
	if err := d.bootTampered(ctx, bad); err != nil {
		return "", err
	}
	if _, err := d.b.Expect(ctx, `Access Denied|Security Violation`); err != nil {
		return "", err
	}
	d.rows.progress("with the old signature the firmware refuses to start it: Access Denied")
	d.b.PowerCut()
	if err := d.world.Manufacturer.Tamper(ctx, d.image, "initramfs", bad, true); err != nil {
		return "", err
	}
	if err := d.bootTampered(ctx, bad); err != nil {
		return "", err
	}
	if err := d.world.Site.WaitState(ctx, d.b.ID, "refused"); err != nil {
		return "", err
	}
	device, err := d.world.Site.Device(ctx, d.b.ID)
	if err != nil {
		return "", err
	}
	if !strings.Contains(device.Reason, "initramfs") {
		return "", fmt.Errorf("the service refused %s for %q, not naming the initramfs", d.b.ID, device.Reason)
	}
	return "firmware: Access Denied; signed again: " + device.Reason, nil
}

func (d *demo) bootTampered(ctx context.Context, image string) error {
	if err := d.b.Reflash(ctx, image); err != nil {
		return err
	}
	return d.b.Boot(ctx)
}

// strangePhone: a genuine phone of the same manufacturer that nobody put on
// this owner's allow-list.
func (d *demo) strangePhone(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*bootLimit)
	defer cancel()
	c, err := d.newPhone(ctx, "C", "RF-000003")
	if err != nil {
		return "", err
	}
	manifest := filepath.Join(d.out, "other-manifest.json")
	if err := c.Factory(ctx, manifest); err != nil {
		return "", err
	}
	if err := c.Boot(ctx); err != nil {
		return "", err
	}
	line, err := c.Expect(ctx, `ringfence agent: (evidence.refused|disconnected) [^\r\n]*`)
	if err != nil {
		return "", err
	}
	return line[0], nil
}
