package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"ringfence/provisioning/rollout"
)

const (
	fleetSize = 1000
	maxMemory = 400 << 20 // of the service, bytes
)

// view asks for one rollout.
func (s *site) view(id string) *rollout.View {
	s.t.Helper()
	v := new(rollout.View)
	must(s.t, s.owner.call(s.t.Context(), "GET", "/v1/rollouts/"+id, nil, v))
	return v
}

// until waits for want; the rollout may not stop anywhere else.
func (s *site) until(id, what string, timeout time.Duration, want func(*rollout.View) bool) *rollout.View {
	s.t.Helper()
	for end := time.Now().Add(timeout); ; {
		v := s.view(id)
		if want(v) {
			return v
		}
		if v.Status != rollout.Running || time.Now().After(end) {
			text, _ := json.Marshal(v.Rings)
			s.t.Fatalf("rollout %s is %s (%s), want %s: %s", id, v.Status, v.Reason, what, text)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// run is the command-line tool; it must succeed, or fail with want.
func (s *site) run(profile, want string, args ...string) string {
	s.t.Helper()
	text, err := s.ringfence(profile, args...)
	if (err == nil) != (want == "") || !strings.Contains(text, want) {
		s.t.Fatalf("ringfence %s = %v, want %q:\n%s", strings.Join(args, " "), err, want, text)
	}
	return text
}

func start(release string, more ...string) []string {
	return append([]string{"rollout", "start", release, "--model", string(model), "--target", "fleetsim/" + release + "/phone.efi", "--limit", "20s", "--wait", "5s", "--soak", "1s"}, more...)
}

// TestFleet: a clean rollout to a thousand phones that outlives a crash of the
// service, and one of which 2 % of the phones go silent, which halts by itself.
func TestFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand phones take a minute")
	}
	s := newSite(t)
	f, m := s.newPhones(fleetSize, 500*time.Millisecond)
	s.refusals(m)
	s.clean()
	must(t, s.owner.importReference(t.Context(), m, "1.2.0"))
	s.silence(f)
	peak, cpu := s.used()
	t.Logf("provisiond: peak memory %d MiB, CPU %s since its restart", peak>>20, cpu)
	if peak > maxMemory {
		t.Errorf("provisiond used %d MiB, at most %d", peak>>20, maxMemory>>20)
	}
	audit, err := s.ringfence(s.admin(), "audit", "verify")
	if err != nil {
		t.Errorf("audit list: %v: %s", err, audit)
	}
}

// refusals: what must not start.
func (s *site) refusals(m *maker) {
	s.t.Helper()
	canary := []string{"--ring", "canary=20", "--ring", "rest=100%"}
	s.run(s.admin(), "no trusted reference values of release 1.1.0", start("1.1.0", canary...)...)
	must(s.t, s.owner.importReference(s.t.Context(), m, "1.1.0"))
	s.run(s.admin(), "must start with a ring of at most 50 phones", start("1.1.0")...)
	s.run(s.admin(), "must start with a ring of at most 50 phones", start("1.1.0", append(canary, "--soak", "0s")...)...)
	s.run(s.admin(), "no enrolled phone", start("0.9.0")...)
	s.run(s.admin(), "want major.minor.patch", start("1.1")...)
	s.run(s.admin(), "enrolled, of this model", start("1.1.0", "--ring", "lab=SIM-00001,RF-9999")...)
}

// clean: two persons start it, the service crashes in the middle of the last
// ring, and every phone commits.
func (s *site) clean() {
	s.t.Helper()
	t0 := time.Now()
	s.run(s.admin(), "", start("1.1.0", "--ring", "lab=SIM-00007", "--ring", "canary=20", "--ring", "quarter=25%", "--ring", "rest=100%", "--parallel", "100")...)
	if v := s.view("r1"); v.Status != rollout.Proposed {
		s.t.Fatalf("a rollout to %d phones is %s before a second person approved it", fleetSize, v.Status)
	}
	s.run(s.admin(), "another operator must approve", "rollout", "approve", "r1")
	s.run(s.admin(), "abort it first", start("1.1.0", "--ring", "lab=SIM-00008")...)
	s.run(s.second, "", "rollout", "approve", "r1")
	before := s.until("r1", "half way", time.Minute, func(v *rollout.View) bool { return v.Rings[3].Committed > 100 })
	s.crash()
	s.start()
	after := s.view("r1")
	for i := range before.Rings {
		if after.Rings[i].Committed < before.Rings[i].Committed {
			s.t.Errorf("ring %s forgot commits: %+v before the crash, %+v after it", before.Rings[i].Name, before.Rings[i], after.Rings[i])
		}
	}
	if after.Status != rollout.Running || after.Ring != 3 {
		s.t.Errorf("after the crash the rollout is %s in ring %d, want running in 3", after.Status, after.Ring)
	}
	text, err := s.ringfence(s.admin(), "rollout", "status", "r1", "--watch")
	if err != nil || !strings.Contains(text, "is done") {
		s.t.Fatalf("watch: %v:\n%s", err, text)
	}
	for _, ring := range s.view("r1").Rings {
		if ring.Committed != ring.Size || ring.Size == 0 {
			s.t.Errorf("ring %s: %+v, want all committed", ring.Name, ring)
		}
	}
	s.t.Logf("clean rollout to %d phones in 4 rings, with a crash: %s\n%s", fleetSize, time.Since(t0).Round(time.Millisecond), text)
}

// silence: 2 % of the phones go silent.
func (s *site) silence(f *fleet) {
	s.t.Helper()
	t0 := time.Now()
	f.roll(dice{silent: 2, seed: 7})
	s.run(s.admin(), "", start("1.2.0", "--plan", s.plan())...)
	s.run(s.second, "", "rollout", "approve", "r2")
	text, err := s.ringfence(s.admin(), "rollout", "status", "r2", "--watch")
	if err == nil || !strings.Contains(text, "silent") || !strings.Contains(text, "is halted") {
		s.t.Fatalf("watch = %v, want a halt that names silence:\n%s", err, text)
	}
	halted, told := s.view("r2"), f.soFar().told
	if ring := halted.Rings[1]; ring.Silent < 10 || ring.Waiting == 0 {
		s.t.Errorf("ring %+v: want 10 silent phones, and some that were never told", ring)
	}
	time.Sleep(2 * time.Second)
	if now := f.soFar().told; now != told {
		s.t.Errorf("%d phones were told after the halt", now-told)
	}
	s.t.Logf("2 %% silent: halted after %s, %d of %d phones told: %s", time.Since(t0).Round(time.Millisecond), told, fleetSize, halted.Reason)
	s.run(s.admin(), "", "rollout", "resume", "r2")
	s.run(s.second, "", "rollout", "halt", "r2", "--reason", "enough")
	if v := s.view("r2"); v.Status != rollout.Halted || v.Reason != "by admin:second: enough" {
		s.t.Errorf("after a halt by hand: %s, %q", v.Status, v.Reason)
	}
	s.run(s.admin(), "", "rollout", "abort", "r2")
	s.run(s.admin(), "is aborted already", "rollout", "resume", "r2")
	s.run(s.admin(), "no such rollout", "rollout", "status", "r9")
}

// plan is a file of rings: a lenient canary and a strict rest.
func (s *site) plan() string {
	s.t.Helper()
	path := s.dir + "/plan.json"
	text := `[{"name":"canary","count":20,"threshold":80,"soak":"1s","limit":"10s","wait":"5s"},
		{"name":"rest","percent":100,"threshold":99,"soak":"1s","limit":"10s","wait":"5s","parallel":20}]`
	must(s.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
