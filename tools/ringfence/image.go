package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"ringfence/tools/image"
)

func newImageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Build the kernel and the signed image of a board"}
	cmd.AddCommand(newImageKernelCommand(), newImageStubCommand(), newImageBuildCommand(), newImageVerifyCommand())
	return cmd
}

func newImageKernelCommand() *cobra.Command {
	var board string
	var test bool
	c := image.KernelConfig{}
	cmd := &cobra.Command{
		Use:   "kernel",
		Short: "Build a board's kernel, or find it in the cache",
		Long:  "Build a board's kernel (about 3 minutes on 2 cores, 2.5 GB of disk meanwhile), or find it in the cache.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Fragments = image.Fragments(filepath.Join("boards", board), test)
			c.Progress = progress(cmd.ErrOrStderr())
			k, err := image.BuildKernel(cmd.Context(), c)
			if err != nil {
				return err
			}
			return report(cmd, map[string]string{"image": k.Image, "config": k.Config, "version": k.Version, "compiler": k.Compiler}, k.Image)
		},
	}
	cmd.Flags().StringVar(&board, "board", "virt64", "board, a folder of boards/")
	cmd.Flags().BoolVar(&test, "test", false, "the kernel of test images, with simulated radios")
	cmd.Flags().BoolVar(&c.Rebuild, "rebuild", false, "build again and require the same bits")
	cmd.Flags().StringVar(&c.CacheDir, "cache", "", "cache folder (default ${XDG_CACHE_HOME:-$HOME/.cache}/ringfence/kernel)")
	return cmd
}

// newImageStubCommand is for scripts/setup: what runs in a namespace of its own
// has no network to fetch anything from.
func newImageStubCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stub",
		Short: "Fetch the boot stub of arm64 images from Debian, or find it in the cache",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			stub, err := image.FetchStub(cmd.Context(), "", progress(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			return report(cmd, map[string]string{"version": stub.Version}, "boot stub "+stub.Version)
		},
	}
}

func progress(w io.Writer) image.Progress {
	return func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
}
