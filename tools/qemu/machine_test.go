package qemu

import (
	"context"
	"errors"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"go.bug.st/serial"

	"ringfence/tools/image"
	"ringfence/tools/segment"
	"ringfence/tools/speech"
	"ringfence/tools/tooltest"
)

const boardDir = "../../boards/virt64/"

func needQEMU(t *testing.T, programs ...string) Spec {
	t.Helper()
	tooltest.NeedBoards(t)
	s, err := LoadSpec(boardDir + "qemu.toml")
	if err != nil {
		t.Fatal(err)
	}
	tooltest.Need(t, append(programs, s.Emulator)...)
	return s
}

// kernel is the board's kernel, from the cache or built.
func kernel(t *testing.T) string {
	t.Helper()
	k, err := image.BuildKernel(t.Context(), image.KernelConfig{Fragments: image.Fragments(boardDir, false), Progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	return k.Image
}

// manufacture makes a TPM and a device tree for one board.
func manufacture(t *testing.T, s Spec) (tpm, tree string) {
	t.Helper()
	dir := t.TempDir()
	authority, err := NewTPMAuthority(dir + "/authority")
	if err != nil {
		t.Fatal(err)
	}
	tpm, tree = dir+"/tpm", dir+"/phone.dtb"
	if err := authority.Manufacture(t.Context(), tpm, "test-1"); err != nil {
		t.Fatal(err)
	}
	if err := BuildDeviceTree(t.Context(), s, boardDir+s.DeviceTreeNodes, tree); err != nil {
		t.Fatal(err)
	}
	return tpm, tree
}

// guest builds the test's userland and packs it as an initramfs.
func guest(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir+"/init", "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build guest: %v: %s", err, out)
	}
	program, err := os.ReadFile(dir + "/init")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(dir + "/initrd")
	if err != nil {
		t.Fatal(err)
	}
	w := cpio.NewWriter(f)
	for _, name := range []string{"dev", "proc", "sys"} {
		if err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeDir | 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	err = w.WriteHeader(&cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(program))})
	_, err2 := w.Write(program)
	if err := errors.Join(err, err2, w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return dir + "/initrd"
}

func start(t *testing.T, c Config) *Machine {
	t.Helper()
	c.Name, c.Dir = "test", t.TempDir()
	m, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Kill)
	return m
}

func TestBoardByDirectBoot(t *testing.T) {
	s := needQEMU(t, "swtpm", "swtpm_setup", "dtc", "espeak-ng")
	tpm, tree := manufacture(t, s)
	wire := segment.New(segment.Config{})
	defer wire.Close()
	m := start(t, Config{Spec: s, Kernel: kernel(t), Initrd: guest(t), Append: "console=ttyAMA0 quiet panic=5",
		DTB: tree, TPMDir: tpm, Network: wire, MAC: "02:00:00:00:00:01"})
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(m.Console().ExpectString(ctx, "guest: sound runs"))
	t.Logf("guest is up after %v", time.Since(m.Started()))
	must(m.Console().ExpectString(ctx, "guest: tpm true serial true net true watchdog true"))
	must(m.Console().ExpectString(ctx, "guest: mic switch off: <nil>"))
	must(m.Console().ExpectString(ctx, "guest: mic switch on: <nil>"))
	t.Run("keys", func(t *testing.T) { testKeys(ctx, t, m) })
	t.Run("hook and lamp", func(t *testing.T) { testHook(ctx, t, m) })
	t.Run("screen", func(t *testing.T) { testScreen(t, m) })
	t.Run("factory line", func(t *testing.T) { testFactoryLine(t, m) })
	t.Run("sound", func(t *testing.T) { testSound(ctx, t, m) })
	m.Kill()
	if err := m.Console().ExpectString(ctx, "never printed"); !errors.Is(err, ErrExited) {
		t.Errorf("Expect on a dead machine = %v, want ErrExited", err)
	}
}

func testKeys(ctx context.Context, t *testing.T, m *Machine) {
	reader := m.Console().Reader()
	if err := m.Type(ctx, "101\n"); err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"2", "11", "2", "28"} { // linux/input-event-codes.h
		if _, err := reader.Expect(ctx, regexp.MustCompile(`guest: key `+code+`\s`)); err != nil {
			t.Fatal(err)
		}
	}
}

func testHook(ctx context.Context, t *testing.T, m *Machine) {
	reader := m.Console().Reader()
	for i, off := range []bool{true, false} {
		if err := m.Hook(off); err != nil {
			t.Fatal(err)
		}
		if err := reader.ExpectString(ctx, "guest: hook "+string("10"[i])); err != nil {
			t.Fatal(err)
		}
		if err := m.ExpectLamp(ctx, off); err != nil {
			t.Fatal(err)
		}
	}
	if _, history := m.Lamp(); len(history) != 2 || !history[0].Lit || history[1].Lit {
		t.Errorf("Lamp() history = %v, want lit, dark", history)
	}
}

func testScreen(t *testing.T, m *Machine) {
	path := filepath.Join(t.TempDir(), "shot.png")
	if err := m.Screenshot(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shot, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(regexp.MustCompile(`guest: (painted|screen|mode).*`).FindAllString(m.Console().Text(), -1))
	r, g, b, _ := shot.At(100, 200).RGBA()
	if size := shot.Bounds().Size(); size.X != 480 || size.Y != 320 || r>>8 != 0xc0 || g>>8 != 0x40 || b>>8 != 0x20 {
		t.Errorf("screen is %v with pixel %x %x %x, want 480x320 with c0 40 20", size, r>>8, g>>8, b>>8)
	}
}

func testFactoryLine(t *testing.T, m *Machine) {
	path, err := m.FactoryLine()
	if err != nil {
		t.Fatal(err)
	}
	line, err := serial.Open(path, &serial.Mode{BaudRate: 115200})
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	time.Sleep(1500 * time.Millisecond) // QEMU looks once a second whether someone opened its pseudo-terminal
	if _, err := line.Write([]byte("serial")); err != nil {
		t.Fatal(err)
	}
	if err := line.SetReadTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for b := make([]byte, 64); got.Len() < 6; {
		n, err := line.Read(b)
		if err != nil || n == 0 {
			break
		}
		got.Write(b[:n])
	}
	if got.String() != "SERIAL" {
		t.Errorf("factory line answers %q, want SERIAL", got.String())
	}
}

func testSound(ctx context.Context, t *testing.T, m *Machine) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	sent, err := speech.Say(ctx, "The number is "+speech.Number(rng), "en")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	select {
	case <-m.Microphone().Play(sent):
	case <-ctx.Done():
		t.Fatalf("the guest takes nothing from the microphone (open: %v)", m.Microphone().Open())
	}
	time.Sleep(500 * time.Millisecond)
	heard := speech.Resample(m.Speaker().Since(began), m.Speaker().Rate(), speech.Rate)
	result := speech.Compare(sent, heard, speech.Rate)
	t.Logf("%+v", result)
	if !result.Pass() {
		kept := filepath.Join(os.TempDir(), "ringfence-heard.wav")
		t.Errorf("Compare = %+v, want a pass; recording kept in %s (%v)", result, kept, speech.WriteWAV(kept, heard, speech.Rate))
	}
	t.Log(regexp.MustCompile(`guest: xruns [^\r\n]*`).FindAllString(m.Console().Text(), -1))
}

func TestFirmwareStarts(t *testing.T) {
	s := needQEMU(t, "swtpm", "swtpm_setup", "dtc")
	template, err := os.ReadFile(s.Firmware.Vars)
	if err != nil {
		tooltest.Missingf(t, "the board's UEFI firmware: %v", err)
	}
	tpm, tree := manufacture(t, s)
	vars := filepath.Join(t.TempDir(), "vars.fd")
	if err := os.WriteFile(vars, template, 0o600); err != nil {
		t.Fatal(err)
	}
	m := start(t, Config{Spec: s, Vars: vars, DTB: tree, TPMDir: tpm})
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if err := m.Console().ExpectString(ctx, "UEFI Interactive Shell"); err != nil {
		t.Fatal(err)
	}
	t.Logf("UEFI shell after %v", time.Since(m.Started()))
}
