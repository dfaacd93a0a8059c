//go:build parity

// Package parity runs a real kubelet and projectord beside each other, for the
// same Pods, and compares the volumes that they write. It needs root and
// containerd; `make parity` runs it.
package parity

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/node"
	"github.com/token-projector/token-projector/test/proc"
)

func TestMain(m *testing.M) { os.Exit(isolate.Run(m.Run)) }

const nodeName = "parity-node"

// rig is a control plane, a node with a kubelet, and projectord on the same
// node with a root directory of its own.
type rig struct {
	*testing.T
	ctx     context.Context
	dir     string
	cluster *devcluster.Cluster
	client  kubernetes.Interface
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, ctx: t.Context(), dir: t.TempDir()}
	r.must(node.Check(false))
	t.Cleanup(func() { r.must(isolate.UnmountBelow(r.dir)) })
	_, err := devcluster.Build(r.ctx, os.Stderr, devcluster.Kubelet)
	r.must(err)
	r.cluster, err = devcluster.Start(r.ctx, devcluster.Config{})
	r.must(err)
	t.Cleanup(func() { r.must(r.cluster.Stop()) })
	r.client, err = r.cluster.Admin()
	r.must(err)
	kubeconfig, err := r.cluster.NodeKubeconfig(nodeName)
	r.must(err)

	// Nothing is pulled and no container ever starts: the kubelet sets up a Pod's
	// volumes before it makes its sandbox.
	n, err := node.Start(r.ctx, node.Config{Cluster: r.cluster, Name: nodeName, Dir: r.dir, RootDir: r.kubeletRoot()})
	r.must(err)
	t.Cleanup(func() {
		n.Stop()
		if t.Failed() {
			for _, c := range []*proc.Component{n.Containerd, n.Kubelet} {
				t.Logf("log of %s:\n%s", c.Name, proc.Tail(c.Log, 40))
			}
		}
	})

	program, err := daemon.Build(r.ctx, r.dir, false)
	r.must(err)
	d, err := daemon.Start(program, r.file("projectord.log"), "--kubeconfig="+kubeconfig, "--node-name="+nodeName,
		"--root-dir="+r.projectordRoot(), "--generation-grace=0", "--kubelet-dir="+r.kubeletRoot(), "--pod-source=node")
	r.must(err)
	t.Cleanup(d.Stop)
	r.must(d.WaitReady(r.ctx))
	return r
}

func (r *rig) file(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) kubeletRoot() string { return r.file("kubelet-root") }

func (r *rig) projectordRoot() string { return r.file("projectord-root") }

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

const patience = 2 * time.Minute

// eventually waits for something that another process does.
func (r *rig) eventually(what string, done func() bool) {
	r.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			r.Fatal(errors.New("waited too long for " + what))
		}
		time.Sleep(100 * time.Millisecond)
	}
}
