package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire/device"
)

// outcome is what a phone makes of an update.
type outcome int

const (
	commits outcome = iota
	silent          // leaves in the middle and never comes back
	reverts         // comes back on its old release and says so
	refuses         // stays, and says why
)

// dice says how many phones, in percent of all, make what of an update. The
// same seed gives the same phones.
type dice struct {
	silent, reverted, refused float64
	seed                      uint64
}

// counts is what happened so far.
type counts struct {
	enrolled, told, heard int
	first, last           time.Time // that a phone was told
}

// fleet runs simulated phones.
type fleet struct {
	service *service
	reboot  time.Duration // how long a phone is away
	phones  []*phone

	mu     sync.Mutex
	images map[string]*appraisetest.Image
	fate   map[device.ID]outcome
	counts counts
}

func newFleet(s *service, phones []*phone, reboot time.Duration) *fleet {
	return &fleet{service: s, reboot: reboot, phones: phones, images: make(map[string]*appraisetest.Image)}
}

// image is the one boot of a release that all its phones share.
func (f *fleet) image(version string) *appraisetest.Image {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.images[version] == nil {
		f.images[version] = appraisetest.Measure(boot(version))
	}
	return f.images[version]
}

// roll decides what each phone makes of the updates that follow.
func (f *fleet) roll(d dice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fate = make(map[device.ID]outcome)
	f.counts.told = 0
	order := rand.New(rand.NewPCG(d.seed, 0)).Perm(len(f.phones))
	for _, share := range []struct {
		percent float64
		fate    outcome
	}{{d.silent, silent}, {d.reverted, reverts}, {d.refused, refuses}} {
		n := min(int(share.percent*float64(len(f.phones))/100+0.5), len(order))
		for _, i := range order[:n] {
			f.fate[f.phones[i].id] = share.fate
		}
		order = order[n:]
	}
}

func (f *fleet) outcome(id device.ID) outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fate[id]
}

func (f *fleet) told(device.ID) {
	f.count(func(c *counts) {
		c.told++
		c.last = time.Now()
		if c.told == 1 {
			c.first = c.last
		}
	})
}

func (f *fleet) count(change func(*counts)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.counts)
}

func (f *fleet) soFar() counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// handshakes bounds how many phones enrol at once, as a switch would that
// powers its ports one after the other.
const handshakes = 32

// enroll has every phone get its certificate; the first error ends it.
func (f *fleet) enroll(ctx context.Context, version string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	image := f.image(version)
	slots := make(chan struct{}, handshakes)
	var running sync.WaitGroup
	for _, p := range f.phones {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-slots }()
			if err := p.enroll(ctx, f.service, image); err != nil {
				cancel(err)
				return
			}
			p.running = version
			f.count(func(c *counts) { c.enrolled++ })
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// run keeps every phone on its stream until ctx ends.
func (f *fleet) run(ctx context.Context) {
	var running sync.WaitGroup
	for i, p := range f.phones {
		running.Go(func() { p.live(ctx, f, time.Duration(i)*2*time.Millisecond) })
	}
	running.Wait()
}

// retry is the longest pause before a phone connects again.
const retry = 2 * time.Second

// live connects again and again, as a phone does.
func (p *phone) live(ctx context.Context, f *fleet, start time.Duration) {
	wait := start
	for pause(ctx, wait) == nil {
		err := p.serve(ctx, f)
		if errors.Is(err, errGone) {
			return
		}
		wait = 0
		if !errors.Is(err, errReboot) {
			wait = rand.N(retry)
		}
	}
}

func (c counts) String() string {
	return fmt.Sprintf("enrolled %d, told %d, reports heard %d", c.enrolled, c.told, c.heard)
}
