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
	"os/exec"
	"path/filepath"
	"runtime"
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
	_, err := exec.LookPath("strace")
	if err := errors.Join(node.Check(true), err); err != nil {
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
	if err := image.Write(ctx, filepath.Join(dir, "probe.tar"), probeImage, probe); err != nil {
		return err
	}
	consumer, err := image.BuildProgram(ctx, dir, "github.com/token-projector/token-projector/test/e2e/consumer")
	if err != nil {
		return err
	}
	if err := image.Write(ctx, filepath.Join(dir, "consumer.tar"), consumerImage, consumer); err != nil {
		return err
	}
	return prepareOurs(ctx, dir)
}

// The images that the manifests and documents name. The second one of ours is
// another by a label.
const (
	ourImage      = "ghcr.io/token-projector/projectord:dev"
	nextImage     = "ghcr.io/token-projector/projectord:next"
	workloadImage = "registry.k8s.io/pause:3.10"
)

// prepareOurs packs projectord as `make image` does.
func prepareOurs(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "make", "--silent", "image")
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("packing projectord: %w\n%s", err, out)
	}
	program, err := filepath.Abs(filepath.Join(repository, "bin/linux-"+runtime.GOARCH, "projectord"))
	if err != nil {
		return err
	}
	err = image.Write(ctx, filepath.Join(dir, "next.tar"), nextImage, program, "-label", "test=next", "-alias", "projectorctl")
	if err != nil {
		return err
	}
	archive, err := os.ReadFile(filepath.Join(repository, "bin/projectord-image.tar"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "projectord.tar"), archive, 0600)
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
	for _, archive := range []string{"probe.tar", "consumer.tar", "projectord.tar", "next.tar"} {
		if err := w.node.Import(ctx, filepath.Join(machine.Dir, archive)); err != nil {
			return nil, err
		}
	}
	return w, w.node.TagPause(ctx, workloadImage)
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
