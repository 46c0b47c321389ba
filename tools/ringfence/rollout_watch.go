package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"ringfence/provisioning/rollout"
)

// watchInterval is how often a rollout is looked at.
const watchInterval = 500 * time.Millisecond

// watchRollout follows a rollout until it ends or halts, with a bar per ring
// when there is a terminal, and then shows it. A halt or an abort is an error.
func watchRollout(cmd *cobra.Command, id string) error {
	c, err := newAdminClient(cmd)
	if err != nil {
		return err
	}
	bars := newBars(cmd.Context(), cmd.ErrOrStderr())
	v, raw, err := follow(cmd.Context(), c, id, bars.show)
	bars.end()
	if err != nil {
		return err
	}
	if err := display(cmd, cmd.OutOrStdout(), raw, showRollout); err != nil {
		return err
	}
	if v.Status != rollout.Done {
		return errors.New("rollout " + id + " is " + string(v.Status) + ": " + v.Reason)
	}
	return nil
}

// follow shows each state until the last.
func follow(ctx context.Context, c *adminClient, id string, show func(*rollout.View)) (*rollout.View, json.RawMessage, error) {
	for {
		raw, err := c.call(ctx, http.MethodGet, rolloutPath(id, ""), nil)
		if err != nil {
			return nil, nil, err
		}
		v := new(rollout.View)
		if err := json.Unmarshal(raw, v); err != nil {
			return nil, nil, fmt.Errorf("read the service's answer: %w", err)
		}
		show(v)
		if v.Status.Over() || v.Status == rollout.Halted {
			return v, raw, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(watchInterval):
		}
	}
}

// bars is one bar per ring on a terminal, nothing elsewhere.
type bars struct {
	pool  *mpb.Progress // nil without a terminal
	rings []*mpb.Bar
	text  []func(string)
}

func newBars(ctx context.Context, w io.Writer) *bars {
	f, ok := w.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) {
		return new(bars)
	}
	return &bars{pool: mpb.NewWithContext(ctx, mpb.WithOutput(f), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))}
}

func (b *bars) show(v *rollout.View) {
	if b.pool == nil {
		return
	}
	for i, t := range v.Rings {
		if i == len(b.rings) {
			b.add(t)
		}
		b.text[i](fmt.Sprintf("%d committed, %d updating, %d failed, %d waiting", t.Committed, t.Told, t.Failed, t.Waiting))
		b.rings[i].SetCurrent(int64(t.Committed + t.Failed))
	}
}

func (b *bars) add(t rollout.Tally) {
	line := make(chan string, 1)
	last := ""
	text := decor.Any(func(decor.Statistics) string {
		select {
		case last = <-line:
		default: // nothing new
		}
		return " " + last
	})
	b.text = append(b.text, func(s string) {
		select {
		case <-line:
		default: // it was drawn
		}
		line <- s
	})
	b.rings = append(b.rings, b.pool.AddBar(int64(t.Size), mpb.PrependDecorators(decor.Name(t.Name, decor.WCSyncSpaceR)), mpb.AppendDecorators(text)))
}

// end leaves the bars as they stand.
func (b *bars) end() {
	if b.pool == nil {
		return
	}
	for _, bar := range b.rings {
		bar.Abort(false)
	}
	b.pool.Wait()
}
