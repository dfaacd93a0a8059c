package devcluster

import (
	"context"
	"io"
	"os"
	"path/filepath"
)

// BuildKubelet builds the kubelet into the same cache as the control plane, if
// it is not there yet, and returns its path.
func BuildKubelet(ctx context.Context, w io.Writer) (string, error) {
	dir, err := Build(ctx, w)
	if err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(dir, "kubelet")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	v, err := readVersions(ctx)
	if err != nil {
		return "", err
	}
	return path, v.build(ctx, w, binary{"kubelet", "k8s.io/kubernetes/cmd/kubelet"}, path)
}
