// Package image writes container images that hold static programs and nothing
// else. It makes archives for `ctr images import`, and knows no registry.
package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// BuildProgram compiles a main package of the test module into dir, statically,
// and returns the program's path.
func BuildProgram(ctx context.Context, dir, pkg string) (string, error) {
	path := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// Write writes an image with these programs in its root directory as an archive
// in the format of `docker save`. The first program is what it runs. The name
// has a registry and a tag, as in localhost/pause:test.
func Write(archive, name string, programs ...string) error {
	layer, err := layerOf(programs)
	if err != nil {
		return fmt.Errorf("writing image %s: %w", name, err)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{"/" + filepath.Base(programs[0])}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	all, err := tarOf([]file{{"layer.tar", 0644, layer}, {"config.json", 0644, config}, {"manifest.json", 0644, manifest}})
	if err == nil {
		err = os.WriteFile(archive, all, 0600)
	}
	if err != nil {
		return fmt.Errorf("writing image %s: %w", name, err)
	}
	return nil
}

// layerOf is a layer with programs in its root directory.
func layerOf(programs []string) ([]byte, error) {
	var files []file
	for _, program := range programs {
		content, err := os.ReadFile(program)
		if err != nil {
			return nil, err
		}
		files = append(files, file{filepath.Base(program), 0755, content})
	}
	return tarOf(files)
}

type file struct {
	name    string
	mode    int64
	content []byte
}

func tarOf(files []file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
