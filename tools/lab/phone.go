package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"ringfence/tools/qemu"
)

// Phone is one unit: its disk, its UEFI variables, its TPM, and the machine
// while it is powered on.
type Phone struct {
	Name string // "A", "B": names the directory, the port and the log lines
	ID   string // serial number
	Dir  string
	MAC  string

	world   *World
	image   Image
	Machine *qemu.Machine // nil while powered off
}

func (p *Phone) path(name string) string { return filepath.Join(p.Dir, name) }

// Disk, Vars and TPM are where the phone's state lives while it is off.
func (p *Phone) Disk() string { return p.path("disk.img") }
func (p *Phone) Vars() string { return p.path("vars.fd") }
func (p *Phone) TPM() string  { return p.path("tpm") }

// NewPhone flashes a disk with image, copies the manufacturer's UEFI
// variables and makes a TPM with its endorsement certificate.
func (w *World) NewPhone(ctx context.Context, name, id string, image Image) (*Phone, error) {
	w.phones++
	p := &Phone{Name: name, ID: id, Dir: filepath.Join(w.Dir, "phone-"+name), world: w, image: image,
		MAC: fmt.Sprintf("52:54:00:72:66:%02x", w.phones)}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := w.Manufacturer.Flash(ctx, image.UKI(), p.Disk()); err != nil {
		return nil, err
	}
	if err := copyFile(p.Vars(), image.Vars()); err != nil {
		return nil, err
	}
	return p, w.TPMs.Manufacture(ctx, p.TPM(), id)
}

// Boot powers the phone on. It keeps running until PowerCut or the lab's end.
func (p *Phone) Boot(ctx context.Context, extra ...string) error {
	if p.Machine != nil {
		return fmt.Errorf("phone %s is on", p.Name)
	}
	logs, err := os.MkdirTemp(p.Dir, time.Now().Format("boot-150405-"))
	if err != nil {
		return err
	}
	p.Machine, err = qemu.Start(ctx, qemu.Config{
		Spec: p.world.Board, Name: "phone-" + p.Name, Dir: logs, Disk: p.Disk(), Vars: p.Vars(), DTB: p.image.DTB(),
		TPMDir: p.TPM(), MAC: p.MAC, Network: p.world.Segment, Extra: extra,
	})
	if err != nil {
		return fmt.Errorf("boot phone %s: %w", p.Name, err)
	}
	return nil
}

// PowerCut ends the machine at once, as pulling the plug would.
func (p *Phone) PowerCut() {
	if p.Machine != nil {
		p.Machine.Kill()
		p.Machine = nil
	}
}

// Expect waits for pattern on the console since power-on.
func (p *Phone) Expect(ctx context.Context, pattern string) ([]string, error) {
	match, err := p.Machine.Console().Expect(ctx, regexp.MustCompile(pattern))
	if err != nil {
		return nil, fmt.Errorf("phone %s: %w", p.Name, err)
	}
	return match, nil
}

// Factory boots the blank phone, gives it its identity over the serial line
// and adds it to manifest. Afterwards the phone is off.
func (p *Phone) Factory(ctx context.Context, manifest string) error {
	if err := p.Boot(ctx); err != nil {
		return err
	}
	defer p.PowerCut()
	if _, err := p.Expect(ctx, `ringfence agent: factory.waiting`); err != nil {
		return err
	}
	roots, err := p.world.ekRoots()
	if err != nil {
		return err
	}
	line, err := p.Machine.FactoryLine()
	if err != nil {
		return err
	}
	if err := p.world.Manufacturer.Enroll(ctx, line, roots, p.ID, manifest); err != nil {
		return fmt.Errorf("factory step of phone %s: %w", p.Name, err)
	}
	return nil
}

func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
