package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"ringfence/tools/lab"
	"ringfence/tools/speech"
)

// Time limits of single waits. The machines are emulated on a busy host.
const (
	bootLimit = 3 * time.Minute
	callLimit = time.Minute
)

type demo struct {
	rows  *rows
	root  string
	out   string
	board string

	world *lab.World
	image lab.Image
	a, b  *lab.Phone
	phone []*lab.Phone

	updates   *lab.Updates
	good, bad lab.Image // releases 1.0.1 and 1.0.2
	release   *lab.Proposal
}

func (d *demo) close() {
	for _, p := range d.phone {
		p.PowerCut()
	}
	if d.world != nil {
		d.world.Close()
	}
	if d.updates != nil {
		if err := d.updates.Close(); err != nil {
			d.rows.progress("release log: %v", err)
		}
	}
}

func (d *demo) play(ctx context.Context) {
	r := d.rows
	r.run(ctx, "image built", d.buildImage)
	r.run(ctx, "identity installed", d.factory)
	r.run(ctx, "site running", d.startSite)
	r.run(ctx, "booted verified", d.boot)
	r.run(ctx, "measured", d.stage("measured"))
	r.run(ctx, "radios off", d.stage("radios"))
	r.run(ctx, "enrolled", d.stage("enrolled"))
	r.run(ctx, "attested", d.attested)
	r.run(ctx, "configured", d.stage("configured"))
	r.run(ctx, "registered", d.stage("registered"))
	r.run(ctx, "call set up", d.callSetUp)
	r.run(ctx, "speech heard A to B", func(ctx context.Context) (string, error) { return d.speak(ctx, d.a, d.b, "a-to-b") })
	r.run(ctx, "speech heard B to A", func(ctx context.Context) (string, error) { return d.speak(ctx, d.b, d.a, "b-to-a") })
	r.run(ctx, "call ended", d.callEnded)
	r.run(ctx, "nothing in clear on the wire", d.nothingInClear)
	r.run(ctx, "release signed by two", d.signedByTwo)
	r.run(ctx, "logged", d.logged)
	r.run(ctx, "rolled out to A", d.rolledOut)
	r.run(ctx, "bad release reverted by itself", d.reverted)
	r.run(ctx, "refused: replayed old configuration", d.replayedConfiguration)
	r.run(ctx, "refused: tampered image", d.tamperedImage)
	r.run(ctx, "refused: phone not on the allow-list", d.strangePhone)
}

func (d *demo) buildImage(ctx context.Context) (_ string, err error) {
	d.rows.progress("building tools, keys and the image (the first run also builds the kernel)")
	d.world, err = lab.New(ctx, d.root, filepath.Join(d.out, "lab"), d.board)
	if err != nil {
		return "", err
	}
	if d.updates, err = lab.NewUpdates(ctx, filepath.Join(d.out, "updates"), d.board); err != nil {
		return "", err
	}
	d.image, err = d.buildRelease(ctx, "1.0.0", "image")
	return "release 1.0.0, signed for Secure Boot, reference values signed", err
}

func (d *demo) manifest() string { return filepath.Join(d.out, "manifest.json") }

func (d *demo) factory(ctx context.Context) (_ string, err error) {
	if d.a, err = d.newPhone(ctx, "A", "RF-000001"); err != nil {
		return "", err
	}
	if d.b, err = d.newPhone(ctx, "B", "RF-000002"); err != nil {
		return "", err
	}
	for _, p := range []*lab.Phone{d.a, d.b} {
		limit, cancel := context.WithTimeout(ctx, bootLimit)
		err := p.Factory(limit, d.manifest())
		cancel()
		if err != nil {
			return "", err
		}
		d.rows.progress("phone %s is %s: keys born in its TPM, IDevID issued over the serial line", p.Name, p.ID)
	}
	return "2 phones, endorsement keys checked, credentials activated", nil
}

func (d *demo) newPhone(ctx context.Context, name, id string) (*lab.Phone, error) {
	p, err := d.world.NewPhone(ctx, name, id, d.image)
	if err == nil {
		d.phone = append(d.phone, p)
	}
	return p, err
}

func (d *demo) startSite(ctx context.Context) (string, error) {
	w := d.world
	if err := w.NewSite(ctx); err != nil {
		return "", err
	}
	if err := w.Site.ServeUpdates(d.updates.Dir); err != nil {
		return "", err
	}
	w.Site.Provisiond().Stop()
	if err := w.Site.StartProvisiond(ctx); err != nil {
		return "", err
	}
	if err := w.Manufacturer.Vouchers(ctx, d.manifest(), w.Site.OwnerCA()); err != nil {
		return "", err
	}
	if err := w.Import(ctx, d.image, d.manifest()); err != nil {
		return "", err
	}
	for id, user := range map[string]string{d.a.ID: "100", d.b.ID: "101"} {
		if err := w.Site.Configure(ctx, id, "line.user="+user, "line.display=Phone "+user); err != nil {
			return "", err
		}
	}
	return "provisioning service, Kamailio, allow-list of 2 phones, reference values of release 1.0.0", nil
}

func (d *demo) boot(ctx context.Context) (string, error) {
	for _, p := range []*lab.Phone{d.a, d.b} {
		if err := p.Boot(ctx); err != nil {
			return "", err
		}
	}
	return d.onBoth(ctx, bootLimit, `stage name=init .*secureboot=on`)
}

// onBoth waits for pattern on the consoles of A and B.
func (d *demo) onBoth(ctx context.Context, limit time.Duration, pattern string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	phones := []*lab.Phone{d.a, d.b}
	lines := make([]string, len(phones))
	errs := make([]error, len(phones))
	var group sync.WaitGroup
	for i, p := range phones {
		group.Go(func() {
			match, err := p.Expect(ctx, `[^\n]*`+pattern+`[^\r\n]*`)
			if err != nil {
				errs[i] = err
				return
			}
			lines[i] = match[0]
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("A: %s", lines[0]), nil
}

func (d *demo) stage(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		return d.onBoth(ctx, bootLimit, `stage name=`+name+`\b`)
	}
}

// attested asks the provisioning service, not the phones.
func (d *demo) attested(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	for _, p := range []*lab.Phone{d.a, d.b} {
		if err := d.world.Site.WaitState(ctx, p.ID, "trusted"); err != nil {
			return "", err
		}
	}
	return "the service appraised quote, event log and keys of both: trusted", nil
}

func (d *demo) callSetUp(ctx context.Context) (string, error) {
	limit, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := lab.Call(limit, d.a, d.b, "101"); err != nil {
		return "", err
	}
	line, err := d.onBoth(ctx, callLimit, `ringfence call: line kind=answered`)
	if err != nil {
		return "", err
	}
	return line, d.b.Machine.Screenshot(filepath.Join(d.out, "screen-call.png"))
}

// speak says a random number into from and compares what to played.
func (d *demo) speak(ctx context.Context, from, to *lab.Phone, name string) (string, error) {
	limit, cancel := context.WithTimeout(ctx, 2*callLimit)
	defer cancel()
	number := speech.Number(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	d.rows.progress("phone %s says %q", from.Name, number)
	result, err := lab.Speak(limit, from, to, number, filepath.Join(d.out, name))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%q: %d of %d windows match, %v behind", number, result.Good, result.Windows, result.Lag), nil
}

func (d *demo) callEnded(ctx context.Context) (string, error) {
	if err := d.a.Machine.Hook(false); err != nil {
		return "", err
	}
	return d.onBoth(ctx, callLimit, `ringfence call: line kind=ended`)
}

func (d *demo) nothingInClear(ctx context.Context) (string, error) {
	counts, err := d.world.ReadCapture(ctx)
	if err != nil {
		return "", err
	}
	if err := counts.Check(); err != nil {
		return "", err
	}
	return counts.String(), d.a.Machine.Screenshot(filepath.Join(d.out, "screen-idle.png"))
}
