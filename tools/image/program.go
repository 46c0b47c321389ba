package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Program says which Go program becomes PID 1.
type Program struct {
	Root    string // module root; "" = found from the working directory
	Package string // such as "./firmware/cmd/phone"
	Tags    string // build tags, comma separated; "" in product images
	Arch    string // GOARCH; "" = arm64
}

// BuildProgram builds p as a static, reproducible binary: no build directory,
// revision or time is in it.
func BuildProgram(ctx context.Context, p Program) ([]byte, error) {
	if p.Arch == "" {
		p.Arch = "arm64"
	}
	root, err := p.root(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ringfence-program-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "init")
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + p.Arch, "GOTOOLCHAIN=local", "GOFLAGS="}
	_, err = run(ctx, root, env, "go", "build", "-trimpath", "-buildvcs=false", "-tags="+p.Tags,
		"-ldflags=-s -w -buildid=", "-o", out, p.Package)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", p.Package, err)
	}
	return os.ReadFile(out)
}

func (p Program) root(ctx context.Context) (string, error) {
	if p.Root != "" {
		return p.Root, nil
	}
	out, err := run(ctx, "", nil, "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	mod := strings.TrimSpace(out)
	if filepath.Base(mod) != "go.mod" {
		return "", fmt.Errorf("not inside the source tree: run this in the checkout")
	}
	return filepath.Dir(mod), nil
}
