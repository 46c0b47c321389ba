package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"ringfence/firmware/intercom"
	"ringfence/firmware/network"
)

// runNet is the net role: link, lease, packet filter.
func runNet(ctx context.Context, _ []string) error {
	log := newLog(os.Stderr, roleNet)
	l, err := intercom.Inherited(listenFD, roleNet)
	if err != nil {
		return err
	}
	hub, err := intercom.Dial(ctx, socket(roleInit), uidInit, nil)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	policy := newHub().policy()
	current := func() network.Policy { mu.Lock(); defer mu.Unlock(); return policy }
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		err := intercom.Serve(ctx, l, []int{uidInit}, func(_ context.Context, r *intercom.Request) (any, error) {
			if r.Verb != verbPolicy {
				return nil, fmt.Errorf("unknown verb %q", r.Verb)
			}
			return decode(r, func(p policyMessage) error {
				mu.Lock()
				defer mu.Unlock()
				policy = p
				return network.Filter(p)
			})
		}, nil)
		if err != nil {
			log.Error("intercom ended", "error", err)
		}
	})
	return network.Run(ctx, network.Config{Policy: current, Resolver: resolvConf, Log: log, Changed: func(lease network.Lease) {
		log.Info("lease", "interface", lease.Interface, "address", lease.Address, "router", lease.Router, "hints", len(lease.Hints))
		if err := hub.Notify(verbLease, lease); err != nil {
			log.Error("lease not told", "error", err)
		}
	}})
}
