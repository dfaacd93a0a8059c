package node

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"

	"github.com/token-projector/token-projector/test/image"
	"github.com/token-projector/token-projector/test/proc"
)

// pauseImage is what the sandboxes of Pods run.
const pauseImage = "localhost/token-projector-pause:test"

// WritePauseImage compiles the program that the sandboxes of Pods run and writes
// its image. Call it where there is a network: the compiler may fetch modules.
func WritePauseImage(ctx context.Context, dir string) (archive string, err error) {
	program, err := image.BuildProgram(ctx, dir, "github.com/token-projector/token-projector/test/node/pause")
	if err != nil {
		return "", err
	}
	archive = filepath.Join(dir, "pause.tar")
	return archive, image.Write(ctx, archive, pauseImage, program)
}

// containerd 1.6 and newer, with all its files in one directory. Where it may not
// set a lower oom_score_adj than its own, runc fails unless that is restricted.
const containerdConfig = `version = 2
root = "%[1]s/containerd"
state = "%[1]s/containerd-state"
[grpc]
  address = "%[2]s"
[plugins."io.containerd.internal.v1.opt"]
  path = "%[1]s/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%[3]s"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "%[4]s"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[5]s"
    conf_dir = "%[1]s/cni"
`

func (c Config) containerd(socket string) (*proc.Component, error) {
	path, err := exec.LookPath("containerd")
	if err != nil {
		return nil, err
	}
	snapshotter := "native" // works in any directory
	if c.Containers != nil {
		snapshotter = "overlayfs"
	}
	config, err := c.write("containerd.toml", fmt.Sprintf(containerdConfig, c.Dir, socket, pauseImage, snapshotter, cniDir))
	if err != nil {
		return nil, err
	}
	return &proc.Component{
		Name: "containerd",
		Path: path,
		Args: []string{"--config=" + config},
		Log:  filepath.Join(c.Dir, "containerd.log"),
		Ready: func(ctx context.Context) error {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			if err == nil {
				_ = conn.Close()
			}
			return err
		},
	}, nil
}

// Import gives containerd an image, from an archive such as image.Write makes.
func (n *Node) Import(ctx context.Context, archive string) error {
	return n.images(ctx, "import", archive)
}

// TagPause gives the image of the sandboxes another name too, for Pods that do
// nothing.
func (n *Node) TagPause(ctx context.Context, name string) error {
	return n.images(ctx, "tag", pauseImage, name)
}

// WatchContainers writes what containerd does with containers to a file, a line
// each as `ctr events` has it, with the moment.
func (n *Node) WatchContainers(file string) (*proc.Process, error) {
	path, err := exec.LookPath("ctr")
	if err != nil {
		return nil, err
	}
	return proc.Start("ctr events", path, []string{"--address=" + n.socket, "--namespace=k8s.io", "events"}, file)
}

// images manages containerd's.
func (n *Node) images(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address=" + n.socket, "--namespace=k8s.io", "images"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ctr images %q: %w\n%s", args, err, out)
	}
	return nil
}
