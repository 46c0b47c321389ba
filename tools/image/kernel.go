package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// KernelSource is Debian's kernel source, package linux-source-6.1.
const KernelSource = "/usr/src/linux-source-6.1.tar.xz"

// kernelEpoch fixes every time that a build would write down.
const (
	kernelEpoch = "1704067200"
	kernelDate  = "Mon Jan  1 00:00:00 UTC 2024"
)

// KernelConfig says which kernel to build.
type KernelConfig struct {
	Source    string   // source archive; "" = KernelSource
	Fragments []string // configuration fragments, later ones override earlier ones; at least one
	CacheDir  string   // "" = CacheDir()/kernel
	Rebuild   bool     // build even when the cache has it, and require the same bits
	Progress  Progress
}

// Kernel is a finished kernel.
type Kernel struct {
	Image    string // path of the arm64 Image in the cache
	Config   string // path of its .config
	Version  string // such as "6.1.192-2 (Debian)"
	Compiler string // first line of the compiler's version
}

// BuildKernel returns the kernel of c from the cache, or builds it: about
// three minutes on two cores and 2.5 GB of disk in the cache directory while
// it builds (then 20 MB). The result depends only on source, fragments and
// compiler, not on where, when or by whom it is built.
func BuildKernel(ctx context.Context, c KernelConfig) (*Kernel, error) {
	if c.Source == "" {
		c.Source = KernelSource
	}
	wanted, err := mergeFragments(c.Fragments)
	if err != nil {
		return nil, err
	}
	if c.CacheDir == "" {
		base, err := CacheDir()
		if err != nil {
			return nil, err
		}
		c.CacheDir = filepath.Join(base, "kernel")
	}
	k := &Kernel{}
	if k.Version, err = sourceVersion(ctx, c.Source); err != nil {
		return nil, err
	}
	if k.Compiler, err = compilerVersion(ctx); err != nil {
		return nil, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "kernel 1\n%s\n%s\n%s", k.Version, k.Compiler, wanted.text()))
	dir := filepath.Join(c.CacheDir, fmt.Sprintf("%x", key[:12]))
	k.Image, k.Config = filepath.Join(dir, "Image"), filepath.Join(dir, "config")
	return k, locked(dir, func() error { return c.buildInto(ctx, dir, wanted) })
}

func (c *KernelConfig) buildInto(ctx context.Context, dir string, wanted fragment) error {
	old, err := os.ReadFile(filepath.Join(dir, "Image"))
	if err == nil && !c.Rebuild {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := removeStale(dir); err != nil {
		return err
	}
	tree, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	c.Progress.say("kernel: unpacking %s", filepath.Base(c.Source))
	if _, err := run(ctx, tree, nil, "tar", "-x", "--strip-components=1", "-I", "xz -T0", "-f", c.Source); err != nil {
		return err
	}
	if err := c.configure(ctx, tree, wanted); err != nil {
		return err
	}
	if err := c.compile(ctx, tree); err != nil {
		return err
	}
	image, err := os.ReadFile(filepath.Join(tree, "arch/arm64/boot/Image"))
	if err != nil {
		return err
	}
	if old != nil && !bytes.Equal(old, image) {
		return fmt.Errorf("rebuilt kernel differs from the cached one in %s: %x, want %x", dir, sha256.Sum256(image), sha256.Sum256(old))
	}
	config, err := os.ReadFile(filepath.Join(tree, ".config"))
	if err != nil {
		return err
	}
	if err := writeAtomic(filepath.Join(dir, "config"), config, 0o644); err != nil {
		return err
	}
	return writeAtomic(filepath.Join(dir, "Image"), image, 0o644)
}

// removeStale removes the trees of builds that were killed. The caller holds
// the lock of dir, so none is in use.
func removeStale(dir string) error {
	trees, err := filepath.Glob(filepath.Join(dir, "build-*"))
	for _, tree := range trees {
		err = errors.Join(err, os.RemoveAll(tree))
	}
	return err
}

func (c *KernelConfig) configure(ctx context.Context, tree string, wanted fragment) error {
	frag := filepath.Join(tree, "ringfence.frag")
	if err := os.WriteFile(frag, []byte(wanted.text()), 0o644); err != nil {
		return err
	}
	env := append(makeEnv(), "KCONFIG_ALLCONFIG="+frag)
	if _, err := run(ctx, tree, env, "make", append(makeArgs(), "allnoconfig")...); err != nil {
		return err
	}
	got, err := os.ReadFile(filepath.Join(tree, ".config"))
	if err != nil {
		return err
	}
	return wanted.check(got)
}

// compile runs make and reports every 200 objects.
func (c *KernelConfig) compile(ctx context.Context, tree string) error {
	start := time.Now()
	cmd := exec.CommandContext(ctx, "make", append(makeArgs(), fmt.Sprintf("-j%d", runtime.NumCPU()), "Image")...)
	endGroup(cmd)
	cmd.Dir, cmd.Env = tree, append(os.Environ(), makeEnv()...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start make: %w", err)
	}
	objects := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(strings.TrimSpace(lines.Text()), "CC ") {
			if objects++; objects%200 == 0 {
				c.Progress.say("kernel: %d objects compiled, %s", objects, time.Since(start).Round(time.Second))
			}
		}
	}
	_, _ = io.Copy(io.Discard, out) // an overlong line ends the scan early; make must not block on it
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("compile kernel: %w: %s", err, tail(errs.String(), 800))
	}
	c.Progress.say("kernel: done after %s", time.Since(start).Round(time.Second))
	return nil
}

// crossPrefix is empty on an arm64 machine.
func crossPrefix() string {
	if runtime.GOARCH == "arm64" {
		return ""
	}
	return "aarch64-linux-gnu-"
}

// makeArgs builds in the tree itself, so that every file name in the kernel is
// relative and the build directory leaves no trace.
func makeArgs() []string {
	return []string{"ARCH=arm64", "CROSS_COMPILE=" + crossPrefix()}
}

func makeEnv() []string {
	return []string{"LC_ALL=C", "TZ=UTC", "SOURCE_DATE_EPOCH=" + kernelEpoch, "KBUILD_BUILD_TIMESTAMP=" + kernelDate,
		"KBUILD_BUILD_USER=ringfence", "KBUILD_BUILD_HOST=ringfence", "KBUILD_BUILD_VERSION=1", "KCFLAGS=", "LOCALVERSION="}
}

func compilerVersion(ctx context.Context) (string, error) {
	gcc, err := tool(crossPrefix()+"gcc", "gcc-aarch64-linux-gnu")
	if err != nil {
		return "", err
	}
	out, err := run(ctx, "", nil, gcc, "--version")
	line, _, _ := strings.Cut(out, "\n")
	return line, err
}

// sourceVersion is the Debian version of the archive's package; an archive
// that no package owns is named by its digest.
func sourceVersion(ctx context.Context, source string) (string, error) {
	f, err := os.Open(source)
	if err != nil {
		return "", fmt.Errorf("kernel source: %w (apt-get install linux-source-6.1)", err)
	}
	defer f.Close()
	name := strings.TrimSuffix(filepath.Base(source), ".tar.xz")
	if source == KernelSource {
		if out, err := run(ctx, "", nil, "dpkg-query", "-W", "-f", "${Version}", name); err == nil {
			return out, nil
		}
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read kernel source: %w", err)
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil)), nil
}
