//go:build manifests

// Package manifests checks the Kubernetes manifests below deploy/: kustomize
// builds them, kubeconform compares them with the schemas of a real
// kube-apiserver, and that server is asked whether it would take them. It does
// not run them. `make manifests` runs it.
package manifests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/token-projector/token-projector/test/devcluster"
)

// What all tests share.
var (
	cluster *devcluster.Cluster
	// schemas is a directory with the schemas of all that the cluster serves.
	schemas string
)

// Built by make from the module tools.
var (
	kustomize   = filepath.Join("..", "..", "bin", "kustomize")
	kubeconform = filepath.Join("..", "..", "bin", "kubeconform")
)

func TestMain(m *testing.M) {
	code, err := runAll(context.Background(), m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runAll(ctx context.Context, m *testing.M) (code int, err error) {
	for _, tool := range []string{kustomize, kubeconform} {
		if _, err := os.Stat(tool); err != nil {
			return 1, fmt.Errorf("looking for a tool: %w: run 'make bin/kustomize bin/kubeconform'", err)
		}
	}
	if cluster, err = devcluster.Start(ctx, devcluster.Config{}); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	if err := installCRDs(ctx, cluster.AdminConfig()); err != nil {
		return 1, err
	}
	// Made anew each time: it takes a moment, and nothing can be stale.
	schemas = filepath.Join(cluster.Dir, "schemas")
	if err := writeSchemas(cluster.AdminConfig(), schemas); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
