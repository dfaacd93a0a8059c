//go:build e2e

// Package e2e runs DaemonSets the way a cluster does: a real API server, the
// DaemonSet controller and the scheduler bring them to a real kubelet, which runs
// them with containerd and runc, on a Pod network without kube-proxy and DNS. It
// needs root; `make e2e` runs it.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/image"
	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/node"
	"github.com/token-projector/token-projector/test/proc"
	"github.com/token-projector/token-projector/test/proxy"
)

const nodeName = "e2e-node"

// programs are those that the tests need beside the control plane.
var programs = []string{devcluster.Kubelet, devcluster.KubeScheduler, devcluster.Kubectl}

// world is what all tests share.
type world struct {
	machine    isolate.Machine
	cluster    *devcluster.Cluster
	node       *node.Node
	service    *proxy.Proxy // the API server at its service IP, as Pods reach it
	client     kubernetes.Interface
	kubectl    string
	kubeconfig string // of the administrator
}

var shared *world

func TestMain(m *testing.M) {
	os.Exit(isolate.RunMachine(prepare, func(machine isolate.Machine) int { return runAll(m, machine) }))
}

// prepare builds what the tests need, which has no network.
func prepare(dir string) error {
	ctx := context.Background()
	if err := node.Check(true); err != nil {
		return fmt.Errorf("%w\nmake e2e INSTALL=1 installs it", err)
	}
	if _, err := devcluster.Binaries(programs...); err != nil {
		return err
	}
	if _, err := node.WritePauseImage(ctx, dir); err != nil {
		return err
	}
	probe, err := image.BuildProgram(ctx, dir, "github.com/token-projector/token-projector/test/e2e/probe")
	if err != nil {
		return err
	}
	return image.Write(filepath.Join(dir, "probe.tar"), probeImage, probe)
}

func runAll(m *testing.M, machine isolate.Machine) int {
	ctx := context.Background()
	w, err := newWorld(ctx, machine)
	if err == nil {
		shared = w
		code := m.Run()
		if err = w.stop(); err == nil {
			return code
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// newWorld starts the control plane, its service IP and a node. Where it fails, what
// runs already ends with the machine.
func newWorld(ctx context.Context, machine isolate.Machine) (_ *world, err error) {
	w := &world{machine: machine}
	bin, err := devcluster.Binaries(programs...)
	if err != nil {
		return nil, err
	}
	w.kubectl = filepath.Join(bin, devcluster.Kubectl)
	if w.cluster, err = devcluster.Start(ctx, devcluster.Config{Scheduler: true, Kubelets: true}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.cluster.Stop()) // its directory outlives the machine
		}
	}()
	if w.client, err = w.cluster.Admin(); err != nil {
		return nil, err
	}
	if w.kubeconfig, err = w.cluster.AdminKubeconfig(); err != nil {
		return nil, err
	}
	if err := node.AddAddress(devcluster.ServiceIP); err != nil {
		return nil, err
	}
	if w.service, err = proxy.StartForCallers(w.cluster, devcluster.ServiceIP+":443"); err != nil {
		return nil, err
	}
	w.node, err = node.Start(ctx, node.Config{
		Cluster: w.cluster, Name: nodeName, Dir: "/var/lib/containerd", RootDir: "/var/lib/kubelet",
		Containers: &node.Containers{Cgroup: machine.Cgroup, PauseImage: filepath.Join(machine.Dir, "pause.tar")},
	})
	if err != nil {
		return nil, err
	}
	if err := w.node.Import(ctx, filepath.Join(machine.Dir, "probe.tar")); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *world) stop() error {
	w.node.Stop()
	w.service.Stop()
	return w.cluster.Stop()
}

// programsLogs are the ends of the logs of what brings Pods up.
func (w *world) programsLogs() (text string) {
	for _, c := range []*proc.Component{w.cluster.ControllerManager, w.cluster.Scheduler, w.node.Containerd, w.node.Kubelet} {
		text += fmt.Sprintf("log of %s:\n%s\n", c.Name, proc.Tail(c.Log, 30))
	}
	return text
}
