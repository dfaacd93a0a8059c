// Package image makes container images that hold a static program and nothing
// else, with the program that packs projectord's. It knows no registry.
package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/token-projector/token-projector/test/module"
)

// BuildProgram compiles a main package of the test module into dir, statically,
// and returns the program's path.
func BuildProgram(ctx context.Context, dir, pkg string) (string, error) {
	path := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=true", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// Write writes an image with this program in its root directory as an archive for
// `ctr images import`. The name has a registry and a tag, as in localhost/pause:test.
// The flags are tools/image's.
func Write(ctx context.Context, archive, name, program string, flags ...string) error {
	root, err := module.Root(ctx)
	if err != nil {
		return err
	}
	args := append([]string{"run", "./image", "-name", name, "-o", archive}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, program)...)
	cmd.Dir = filepath.Join(root, "tools")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("writing image %s: %w\n%s", name, err, out)
	}
	return nil
}
