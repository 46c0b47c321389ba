package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"ringfence/hal/slot"
	"ringfence/hal/slot/slottest"
	"ringfence/provisioning/wire"
	"ringfence/provisioning/wire/release"
)

const (
	diskSize = 34 << 20
	capacity = 64 << 10
)

var errRebooted = errors.New("rebooted")

// build is an image in the world of a test.
type build struct {
	target  Target
	content []byte
	sick    bool // it boots and never registers
	dead    bool // it hangs: something outside of the test's software ends it
}

func newBuild(n int, size int) *build {
	b := &build{content: make([]byte, size)}
	r := rand.New(rand.NewPCG(uint64(n), 2))
	for i := range b.content {
		b.content[i] = byte(r.Uint32())
	}
	rel := fmt.Sprintf("1.0.%d", n)
	b.target = Target{Path: "virt64/" + rel + ".efi", Length: int64(size), SHA256: sha256.Sum256(b.content),
		Custom: release.Custom{Model: "virt64", Hardware: []string{"r1"}, Release: rel, Sequence: uint64(n)}}
	return b
}

func (b *build) offer() wire.Update {
	return wire.Update{Release: b.target.Custom.Release, Target: b.target.Path}
}

// repository is a Remote and a Verifier over builds.
type repository struct {
	builds map[string]*build
	down   error // Target fails with it
	part   int   // Download gives at most so many bytes per try; 0: all
	begun  []int // at which offset each download began
	proofs map[string]release.Entry
	during func() // called while a download is under way
	served []byte // instead of the content
}

func newRepository(builds ...*build) *repository {
	r := &repository{builds: map[string]*build{}, proofs: map[string]release.Entry{}}
	for _, b := range builds {
		r.builds[b.target.Path] = b
		r.proofs[b.target.Path] = release.Entry{Target: b.target.Path, SHA256: hex.EncodeToString(b.target.SHA256[:]),
			Length: b.target.Length, Release: b.target.Custom.Release, Sequence: b.target.Custom.Sequence}
	}
	return r
}

func (r *repository) Target(_ context.Context, path string) (*Target, error) {
	if r.down != nil {
		return nil, r.down
	}
	b := r.builds[path]
	if b == nil {
		return nil, refuse("metadata", "no target %q", path)
	}
	t := b.target
	return &t, nil
}

func (r *repository) Proof(_ context.Context, path string) ([]byte, error) { return []byte(path), nil }

func (r *repository) VerifyProof(proof []byte, entry release.Entry) error {
	if logged, ok := r.proofs[string(proof)]; !ok || logged != entry {
		return errors.New("not in the log")
	}
	return nil
}

func (r *repository) Download(ctx context.Context, t *Target, dst io.Writer, have io.Reader) error {
	n, err := io.Copy(io.Discard, have)
	if err != nil {
		return err
	}
	r.begun = append(r.begun, int(n))
	if r.during != nil {
		r.during()
		<-ctx.Done()
		return ctx.Err()
	}
	content := r.builds[t.Path].content
	if r.served != nil {
		content = r.served
	}
	rest := content[n:]
	if r.part > 0 && len(rest) > r.part {
		_, err := dst.Write(rest[:r.part])
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	_, err = dst.Write(rest)
	return err
}

// local is a Local over a simulated machine, as init makes it over the real one.
type local struct {
	machine *slottest.Machine
	slots   *slot.Slots
	busy    int // Restart is ErrBusy so many times
	tries   *[]bool
}

func (l *local) Status(_ context.Context, digests bool) (Status, error) {
	running, err := l.slots.Running()
	if err != nil {
		return Status{}, err
	}
	trial, err := l.slots.Trial()
	s := Status{Running: running.String(), Trial: trial, Capacity: l.slots.Capacity(), Digests: map[string][32]byte{}, Registered: true}
	for _, id := range []slot.ID{slot.A, slot.B} {
		if !digests {
			break
		}
		sum, _, digestErr := l.slots.Digest(id)
		if errors.Is(digestErr, fs.ErrNotExist) {
			continue
		}
		s.Digests[id.String()] = sum
		err = errors.Join(err, digestErr)
	}
	return s, err
}

func (l *local) Write(_ context.Context, image *os.File, size int64, digest [32]byte) error {
	return l.slots.Write(image, size, digest)
}

func (l *local) Restart(_ context.Context, try bool) error {
	if l.busy > 0 {
		l.busy--
		return ErrBusy
	}
	*l.tries = append(*l.tries, try)
	if try {
		if err := l.slots.TryOnce(); err != nil {
			return err
		}
	}
	return errRebooted
}

func (l *local) Commit(context.Context) error { return l.slots.Commit() }

// phone is one unit over its boots.
type phone struct {
	machine *slottest.Machine
	builds  map[[32]byte]*build
	remote  *repository
	image   string

	running *build
	local   *local
	updater *Updater
	heard   []wire.Progress
	tries   []bool // how each restart was asked for
}

func newPhone(t *testing.T, builds ...*build) *phone {
	t.Helper()
	m, err := slottest.NewMachine(diskSize, capacity)
	if err != nil {
		t.Fatal(err)
	}
	if err := slot.Place(m.Disk(), slot.A, builds[0].content); err != nil {
		t.Fatal(err)
	}
	p := &phone{machine: m, builds: map[[32]byte]*build{}, remote: newRepository(builds...), image: filepath.Join(t.TempDir(), "image")}
	for _, b := range builds {
		p.builds[b.target.SHA256] = b
	}
	if err := p.boot(nil); err != nil {
		t.Fatal(err)
	}
	return p
}

// boot starts what the firmware finds; an image that hangs is ended and the
// next boot follows, as by a watchdog.
func (p *phone) boot(floor Floor) error {
	for {
		_, digest, err := p.machine.Start(func(d [32]byte) bool { return p.builds[d] != nil })
		if err != nil {
			return err
		}
		if p.running = p.builds[digest]; !p.running.dead {
			break
		}
	}
	slots, err := slot.New(p.machine.Disk(), p.machine.Variables())
	if err != nil {
		return err
	}
	if fell, err := slots.FellBack(); err != nil || fell { // as init does
		return errors.Join(err, slots.Commit(), p.boot(floor))
	}
	if floor == nil {
		floor = p.machine.Floor()
	}
	p.local = &local{machine: p.machine, slots: slots, tries: &p.tries}
	p.updater, err = New(Config{Local: p.local, Remote: p.remote, Verifier: p.remote, Floor: floor, Store: p.machine.File(),
		Image: p.image, Model: "virt64", Hardware: "r1", Release: p.running.target.Custom.Release, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if !p.running.sick {
		p.updater.Attested()
		p.updater.Registered(true)
	}
	return nil
}

// listen takes the progress that waits.
func (p *phone) listen() {
	for len(p.updater.progress) > 0 {
		p.heard = append(p.heard, <-p.updater.progress)
	}
}

// live follows an offer over as many boots as it takes.
func (p *phone) live(ctx context.Context, offer wire.Update) error {
	for range 12 {
		err := p.updater.settle(ctx)
		if err == nil {
			if p.updater.offer != nil {
				offer, p.updater.offer = *p.updater.offer, nil
			}
			err = p.updater.attempt(ctx, offer)
		}
		p.listen()
		var no *Refusal
		switch {
		case err == nil || errors.As(err, &no):
			return err
		case !errors.Is(err, errRebooted):
			return err
		}
		if err := p.boot(nil); err != nil {
			return err
		}
	}
	return errors.New("it reboots for ever")
}

func (p *phone) phases() []wire.Phase {
	var out []wire.Phase
	for _, h := range p.heard {
		out = append(out, h.Phase)
	}
	return out
}

func (p *phone) slotHolds(id slot.ID, b *build) bool {
	content, err := p.machine.ReadSlot(id)
	return err == nil && bytes.Equal(content, b.content)
}
