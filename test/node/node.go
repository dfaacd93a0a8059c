// Package node runs a real node of a test cluster on this machine: containerd and
// the kubelet. It starts no kube-proxy and pulls no image. It needs root, and mounts
// of its own; see package isolate.
package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/proc"
)

// Config says how to run a node.
type Config struct {
	Cluster *devcluster.Cluster
	Name    string
	// Dir is an existing directory, of a short path, for containerd and for what
	// the kubelet has in no fixed place.
	Dir string
	// RootDir is the kubelet's.
	RootDir string
	// Containers is nil for a node on which no container ever starts: its kubelet
	// still writes the volumes of Pods.
	Containers *Containers
}

// Containers is what a node needs to run containers. It must be on a machine of
// its own; see isolate.RunMachine.
type Containers struct {
	// Cgroup is the control group that those of the Pods are made below.
	Cgroup string
	// PauseImage is the archive that WritePauseImage wrote.
	PauseImage string
}

// Node is a running node. Make it with Start.
type Node struct {
	// The programs, in the order in which they start. The kubelet may be stopped
	// and started again while containers run.
	Containerd, Kubelet *proc.Component

	socket string
}

// Check says which of the programs that a node needs are not installed.
func Check(containers bool) error {
	packages := map[string]string{
		"containerd": "containerd", "containerd-shim-runc-v2": "containerd", "ctr": "containerd", "runc": "runc", "mount": "mount",
	}
	if containers {
		for _, plugin := range []string{"ptp", "host-local", "loopback"} {
			packages[filepath.Join(cniDir, plugin)] = "containernetworking-plugins"
		}
	}
	var errs []error
	for _, program := range slices.Sorted(maps.Keys(packages)) {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("%s is not installed: it comes with Debian's %s", program, packages[program]))
		}
	}
	return errors.Join(errs...)
}

// Start starts a node and waits until it has registered and, if it is for
// containers, is ready for them. The kubelet must have been built; see
// devcluster.Build.
func Start(ctx context.Context, cfg Config) (_ *Node, err error) {
	if err := Check(cfg.Containers != nil); err != nil {
		return nil, err
	}
	bin, err := devcluster.Binaries(devcluster.Kubelet)
	if err != nil {
		return nil, err
	}
	client, err := cfg.Cluster.Admin()
	if err != nil {
		return nil, err
	}
	n := &Node{socket: filepath.Join(cfg.Dir, "containerd.sock")}
	defer func() {
		if err != nil {
			n.Stop()
			err = fmt.Errorf("starting node %s: %w", cfg.Name, err)
		}
	}()
	if err := keepTunables(cfg.Dir); err != nil {
		return nil, err
	}
	if cfg.Containers != nil {
		if err := setUpNetwork(cfg.Dir); err != nil {
			return nil, err
		}
	}
	if n.Containerd, err = cfg.containerd(n.socket); err != nil {
		return nil, err
	}
	if err := n.Containerd.Start(ctx); err != nil {
		return nil, err
	}
	if cfg.Containers != nil {
		if err := n.Import(ctx, cfg.Containers.PauseImage); err != nil {
			return nil, err
		}
	}
	if n.Kubelet, err = cfg.kubelet(filepath.Join(bin, devcluster.Kubelet), n.socket, client); err != nil {
		return nil, err
	}
	return n, n.Kubelet.Start(ctx)
}

// Stop ends the kubelet and containerd. Containers end with their machine.
func (n *Node) Stop() {
	for _, c := range []*proc.Component{n.Kubelet, n.Containerd} {
		if c != nil {
			c.Stop()
		}
	}
}

// write writes a configuration file and returns its path.
func (c Config) write(name, text string) (string, error) {
	path := filepath.Join(c.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0600); err != nil {
		return "", fmt.Errorf("configuring node %s: %w", c.Name, err)
	}
	return path, nil
}
