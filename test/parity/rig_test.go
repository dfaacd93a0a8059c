//go:build parity

// Package parity runs a real kubelet and projectord beside each other, for the
// same Pods, and compares the volumes that they write. It needs root and
// containerd; `make parity` runs it.
package parity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/isolate"
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

// containerd 1.6 and newer; nothing is pulled and no container ever starts: the
// kubelet sets up a Pod's volumes before it makes its sandbox.
const containerdConfig = `version = 2
root = "%[1]s/containerd"
state = "%[1]s/containerd-state"
[grpc]
  address = "%[1]s/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "none.invalid/pause:1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
`

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://%[1]s/containerd.sock
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
localStorageCapacityIsolation: false
address: 127.0.0.1
port: %[2]d
readOnlyPort: 0
healthzPort: 0
maxPods: 250
registerNode: true
syncFrequency: 5s
`

func newRig(t *testing.T) *rig {
	t.Helper()
	for _, program := range []string{"containerd", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed: make parity INSTALL=1", program)
		}
	}
	r := &rig{T: t, ctx: t.Context(), dir: t.TempDir()}
	t.Cleanup(func() { r.must(isolate.UnmountBelow(r.dir)) })
	bin, err := devcluster.Build(r.ctx, os.Stderr, devcluster.Kubelet)
	r.must(err)
	r.cluster, err = devcluster.Start(r.ctx, devcluster.Config{})
	r.must(err)
	t.Cleanup(func() { r.must(r.cluster.Stop()) })
	r.client, err = r.cluster.Admin()
	r.must(err)
	kubeconfig, err := r.cluster.NodeKubeconfig(nodeName)
	r.must(err)

	r.write("containerd.toml", fmt.Sprintf(containerdConfig, r.dir))
	r.start("containerd", "containerd", "--config="+r.file("containerd.toml"))
	r.eventually("containerd's socket", func() bool {
		_, err := os.Stat(r.file("containerd.sock"))
		return err == nil
	})
	r.write("kubelet.yaml", fmt.Sprintf(kubeletConfig, r.dir, 10250+os.Getpid()%20000))
	r.start("kubelet", filepath.Join(bin, devcluster.Kubelet), "--config="+r.file("kubelet.yaml"), "--kubeconfig="+kubeconfig, "--hostname-override="+nodeName,
		"--root-dir="+r.kubeletRoot(), "--cert-dir="+r.file("kubelet-pki"), "--node-ip=127.0.0.1")
	r.eventually("the kubelet to register its node", func() bool {
		_, err := r.client.CoreV1().Nodes().Get(r.ctx, nodeName, getOptions)
		return err == nil
	})

	program, err := daemon.Build(r.ctx, r.dir, false)
	r.must(err)
	d, err := daemon.Start(program, r.file("projectord.log"), "--kubeconfig="+kubeconfig, "--node-name="+nodeName,
		"--root-dir="+r.projectordRoot(), "--generation-grace=0")
	r.must(err)
	t.Cleanup(d.Stop)
	r.must(d.WaitReady(r.ctx))
	return r
}

func (r *rig) file(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) kubeletRoot() string { return r.file("kubelet-root") }

func (r *rig) projectordRoot() string { return r.file("projectord-root") }

func (r *rig) write(name, text string) {
	r.Helper()
	r.must(os.WriteFile(r.file(name), []byte(text), 0600))
}

// start runs a program until the test ends.
func (r *rig) start(name, path string, args ...string) {
	r.Helper()
	path, err := exec.LookPath(path)
	r.must(err)
	p, err := proc.Start(name, path, args, r.file(name+".log"))
	r.must(err)
	r.Cleanup(func() {
		p.Stop()
		if r.Failed() {
			r.Logf("log of %s:\n%s", name, proc.Tail(r.file(name+".log"), 40))
		}
	})
}

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
