package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"ringfence/firmware/identity"
)

// Retry says how long to wait between attempts; each wait is 50 to 100 % of
// min(max, base * 2^n) (RFC 5626 section 4.5).
type Retry struct {
	Base, Max               time.Duration // network or server trouble; zero: 2 s, 5 min
	RefusedBase, RefusedMax time.Duration // the server refused us; zero: 30 s, 30 min
}

func (r *Retry) fill() error {
	for _, f := range []struct {
		field *time.Duration
		zero  time.Duration
	}{{&r.Base, 2 * time.Second}, {&r.Max, 5 * time.Minute}, {&r.RefusedBase, 30 * time.Second}, {&r.RefusedMax, 30 * time.Minute}} {
		if *f.field == 0 {
			*f.field = f.zero
		}
	}
	if r.Base < 0 || r.Max < r.Base || r.RefusedBase < 0 || r.RefusedMax < r.RefusedBase {
		return errors.New("agent: retry limits out of order")
	}
	return nil
}

func (r Retry) start() *backoff { return &backoff{retry: r} }

type backoff struct {
	retry Retry
	n     int // failures in a row
}

func (b *backoff) reset() { b.n = 0 }

func (b *backoff) next() time.Duration    { return b.step(b.retry.Base, b.retry.Max) }
func (b *backoff) refused() time.Duration { return b.step(b.retry.RefusedBase, b.retry.RefusedMax) }

func (b *backoff) step(base, limit time.Duration) time.Duration {
	ceiling := limit
	if b.n < 20 { // 2^20 bases is beyond every limit, and shifts stay defined
		ceiling = min(limit, base<<b.n)
	}
	b.n++
	return ceiling/2 + rand.N(ceiling/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// refusal reports that the server judged this phone and said no.
func refusal(err error) bool {
	if errors.Is(err, ErrNotProven) {
		return true
	}
	var problem *identity.Problem
	if !errors.As(err, &problem) {
		return false
	}
	switch problem.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// certificateRefused reports a TLS alert from the server: our certificate
// expired, was revoked, or its CA is no longer trusted (R21).
func certificateRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
