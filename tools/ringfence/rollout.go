package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/rollout"
	"ringfence/provisioning/wire/device"
)

// newRolloutCommand is "ringfence rollout ...".
func newRolloutCommand() *cobra.Command {
	group := &cobra.Command{Use: "rollout", Short: "Bring a release to phones, ring by ring", Args: cobra.NoArgs}
	group.AddCommand(newRolloutStart(), newRolloutStatus(), newRolloutHalt(),
		rolloutAction("approve", "Approve, as a second operator, a rollout that needs it"),
		rolloutAction("resume", "Go on with a halted rollout; its failures so far are accepted"),
		rolloutAction("abort", "End a rollout for good; phones that were told finish by themselves"),
		&cobra.Command{Use: "list", Short: "List all rollouts, oldest first", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return query(cmd, http.MethodGet, "/v1/rollouts", nil, showRollouts)
			}})
	return group
}

// rolloutFlags become a plan.
type rolloutFlags struct {
	model, target, file string
	rings               []string
	threshold, parallel int
	soak, limit, wait   time.Duration
}

func newRolloutStart() *cobra.Command {
	var f rolloutFlags
	var watch bool
	cmd := &cobra.Command{Use: "start RELEASE", Short: "Start to bring a release to phones", Args: cobra.ExactArgs(1),
		Long: `Start to bring a release to phones, ring by ring. A ring goes on to the next when its threshold of phones committed and
it has soaked; it halts by itself when more phones fail than the threshold allows. A phone that says nothing within the limit has failed.`,
		Example: `  ringfence rollout start 1.1.0 --target acme/virt64/1.1.0/phone.efi \
    --ring lab=RF-0001,RF-0002 --ring canary=20 --ring early=25% --ring rest=100%`,
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, err := f.plan(args[0])
			if err != nil {
				return err
			}
			body, err := json.Marshal(plan)
			if err != nil {
				return err
			}
			id := ""
			err = query(cmd, http.MethodPost, "/v1/rollouts", body, func(w io.Writer, v rollout.View) {
				id = v.ID
				showRollout(w, v)
			})
			if err != nil || !watch || id == "" {
				return err
			}
			return watchRollout(cmd, id)
		}}
	cmd.Flags().StringVar(&f.model, "model", "virt64", "model of the phones")
	cmd.Flags().StringVar(&f.target, "target", "", "path of the image in the update repository, as ringfence release show prints it")
	cmd.Flags().StringVar(&f.file, "plan", "", "JSON file with the rings, in place of --ring and what belongs to it")
	cmd.Flags().StringArrayVar(&f.rings, "ring", nil, "NAME=COUNT, NAME=PERCENT% or NAME=DEVICE,DEVICE...; one after the other (default all=100%)")
	cmd.Flags().IntVar(&f.threshold, "threshold", 99, "percent of a ring's phones that must commit")
	cmd.Flags().IntVar(&f.parallel, "parallel", 0, "phones of a ring at work at once (default all)")
	cmd.Flags().DurationVar(&f.soak, "soak", time.Hour, "time between a ring's success and the next ring")
	cmd.Flags().DurationVar(&f.limit, "limit", 30*time.Minute, "time a phone has to commit")
	cmd.Flags().DurationVar(&f.wait, "wait", 24*time.Hour, "time a ring waits for phones that are not connected")
	cmd.Flags().BoolVar(&watch, "watch", false, "follow it until it ends or halts (not with --json)")
	_ = cmd.MarkFlagRequired("target") // errs only for a flag that does not exist
	return cmd
}

func (f *rolloutFlags) plan(version string) (*rollout.Plan, error) {
	plan := &rollout.Plan{Release: version, Model: device.Model(f.model), Target: f.target}
	if f.file != "" {
		raw, err := os.ReadFile(f.file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &plan.Rings); err != nil {
			return nil, fmt.Errorf("plan %s: want a JSON list of rings: %w", f.file, err)
		}
		return plan, plan.Validate()
	}
	if len(f.rings) == 0 {
		f.rings = []string{"all=100%"}
	}
	for _, text := range f.rings {
		r, err := parseRing(text)
		if err != nil {
			return nil, err
		}
		r.Threshold, r.Parallel = f.threshold, f.parallel
		r.Soak, r.Limit, r.Wait = rollout.Duration(f.soak), rollout.Duration(f.limit), rollout.Duration(f.wait)
		plan.Rings = append(plan.Rings, r)
	}
	return plan, plan.Validate()
}

// parseRing reads NAME=COUNT, NAME=PERCENT% or NAME=DEVICE,DEVICE...
func parseRing(text string) (rollout.Ring, error) {
	bad := func(err error) (rollout.Ring, error) {
		return rollout.Ring{}, fmt.Errorf("--ring %q: want NAME=COUNT, NAME=PERCENT%% or NAME=DEVICE,DEVICE...: %w", text, err)
	}
	name, what, ok := strings.Cut(text, "=")
	if !ok {
		return bad(errors.New("no '='"))
	}
	r := rollout.Ring{Name: name}
	number, percent := strings.CutSuffix(what, "%")
	if n, err := strconv.Atoi(number); err == nil && percent {
		r.Percent = n
		return r, nil
	} else if err == nil {
		r.Count = n
		return r, nil
	}
	for one := range strings.SplitSeq(what, ",") {
		id, err := device.ParseID(one)
		if err != nil {
			return bad(err)
		}
		r.Devices = append(r.Devices, id)
	}
	return r, nil
}

func rolloutPath(id, action string) string {
	path := "/v1/rollouts/" + url.PathEscape(id)
	if action != "" {
		path += "/" + action
	}
	return path
}

func rolloutAction(name, short string) *cobra.Command {
	return &cobra.Command{Use: name + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return query(cmd, http.MethodPost, rolloutPath(args[0], name), nil, showRollout)
		}}
}

func newRolloutHalt() *cobra.Command {
	var body admin.Halt
	cmd := &cobra.Command{Use: "halt ID", Short: "Have a rollout start no further phone", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := json.Marshal(body)
			if err != nil {
				return err
			}
			return query(cmd, http.MethodPost, rolloutPath(args[0], "halt"), text, showRollout)
		}}
	cmd.Flags().StringVar(&body.Reason, "reason", "", "why, for the others")
	return cmd
}

func newRolloutStatus() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{Use: "status ID", Short: "Show how far a rollout is", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if watch {
				return watchRollout(cmd, args[0])
			}
			return query(cmd, http.MethodGet, rolloutPath(args[0], ""), nil, showRollout)
		}}
	cmd.Flags().BoolVar(&watch, "watch", false, "follow it until it ends or halts")
	return cmd
}

func showRollouts(w io.Writer, all []rollout.Rollout) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "ID\tRELEASE\tMODEL\tSTATUS\tRING\tSTARTED\tBY\tREASON")
	for _, r := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Plan.Release, r.Plan.Model, r.Status, ringName(&r), r.Created.Format(time.RFC3339), r.By, r.Reason)
	}
}

func ringName(r *rollout.Rollout) string {
	if r.Ring < 0 || r.Ring >= len(r.Plan.Rings) {
		return "-"
	}
	return r.Plan.Rings[r.Ring].Name
}

func showRollout(w io.Writer, v rollout.View) {
	fmt.Fprintf(w, "rollout %s: release %s to model %s is %s\n", v.ID, v.Plan.Release, v.Plan.Model, v.Status)
	if v.Reason != "" {
		fmt.Fprintf(w, "reason: %s\n", v.Reason)
	}
	if v.Status == rollout.Halted {
		fmt.Fprintf(w, "next: ringfence rollout resume %s (accepts these failures) or ringfence rollout abort %s\n", v.ID, v.ID)
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "RING\tPHONES\tWAITING\tUPDATING\tCOMMITTED\tFAILED\tSILENT")
	for _, t := range v.Rings {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", t.Name, t.Size, t.Waiting, t.Told, t.Committed, t.Failed, t.Silent)
	}
	_ = table.Flush() // the terminal has gone
	for _, p := range v.Failed {
		fmt.Fprintf(w, "failed: %s (%s)\n", p.Device, p.Cause)
	}
}
