package main

import (
	"reflect"

	"ringfence/provisioning/wire/lock"
)

// linePlan decides when the line runs: with a configuration, and not while the
// service refuses this phone's proof.
type linePlan struct {
	config  *lock.Config // the newest
	refused bool
	running bool
}

// change is what the call role must do.
type change int

const (
	keepLine change = iota
	startLine
	stopLine
)

// configured takes a configuration in; one that changes nothing for the line
// leaves calls alone.
func (p *linePlan) configured(c *lock.Config) change {
	same := p.config != nil && sameLine(p.config, c)
	p.config = c
	if p.refused || p.running && same {
		return keepLine
	}
	p.running = true
	return startLine
}

// judged takes in what the service says of the phone's proof.
func (p *linePlan) judged(proven bool) change {
	p.refused = !proven
	switch {
	case p.refused && p.running:
		p.running = false
		return stopLine
	case !p.refused && !p.running && p.config != nil:
		p.running = true
		return startLine
	}
	return keepLine
}

func sameLine(a, b *lock.Config) bool {
	return reflect.DeepEqual(a.CallServer, b.CallServer) && reflect.DeepEqual(a.Lines, b.Lines) &&
		reflect.DeepEqual(a.Media, b.Media) && reflect.DeepEqual(a.Policy, b.Policy)
}
