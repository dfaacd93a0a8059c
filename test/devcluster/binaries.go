package devcluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// packages are what the programs are built from, which go.mod lists as tools.
var packages = map[string]string{
	etcd:                  "go.etcd.io/etcd/server/v3",
	kubeAPIServer:         "k8s.io/kubernetes/cmd/kube-apiserver",
	kubeControllerManager: "k8s.io/kubernetes/cmd/kube-controller-manager",
	Kubelet:               "k8s.io/kubernetes/cmd/kubelet",
	KubeScheduler:         "k8s.io/kubernetes/cmd/kube-scheduler",
	Kubectl:               "k8s.io/kubernetes/cmd/kubectl",
}

// Names of the programs that every cluster runs.
const (
	etcd                  = "etcd"
	kubeAPIServer         = "kube-apiserver"
	kubeControllerManager = "kube-controller-manager"
)

// Names of the programs that are built for who asks for them.
const (
	Kubelet       = "kubelet"
	KubeScheduler = "kube-scheduler"
	Kubectl       = "kubectl"
)

// withControlPlane are the names of all programs of a cluster that also has
// these.
func withControlPlane(also []string) []string {
	return append([]string{etcd, kubeAPIServer, kubeControllerManager}, also...)
}

// ErrNotBuilt says that a program is not in the cache.
var ErrNotBuilt = errors.New("it is not built yet: run 'make controlplane' (once, about 5 minutes on 2 cores), " +
	"or 'make e2e' or 'make parity', which build what they need")

// Binaries returns the directory with the control plane's programs and those
// named, or ErrNotBuilt. It builds nothing, so that no test's time limit pays
// for a build.
func Binaries(also ...string) (string, error) {
	v, err := readVersions(context.Background())
	if err != nil {
		return "", err
	}
	dir, err := v.dir()
	if err != nil {
		return "", err
	}
	for _, name := range withControlPlane(also) {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("looking for %s: %w", name, ErrNotBuilt)
		} else if err != nil {
			return "", err
		}
	}
	return dir, nil
}

// versions decide what is built; they come from go.mod.
type versions struct {
	kubernetes, etcd string
}

func readVersions(ctx context.Context) (versions, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes", "go.etcd.io/etcd/server/v3")
	cmd.Stderr = new(bytes.Buffer)
	out, err := cmd.Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) != 2 {
		return versions{}, fmt.Errorf("reading the versions of Kubernetes and etcd, which works only in the test module: %w: %s", err, cmd.Stderr)
	}
	return versions{kubernetes: fields[0], etcd: fields[1]}, nil
}

// dir is where programs of these versions are kept.
func (v versions) dir() (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("kubernetes-%s_etcd-%s_%s_%s", v.kubernetes, v.etcd, runtime.Version(), runtime.GOARCH)
	return filepath.Join(cache, "controlplane", name), nil
}

// cacheDir is where this user keeps what outlives a run.
func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a place for the control plane's programs: %w", err)
	}
	dir := filepath.Join(cache, "token-projector")
	return dir, os.MkdirAll(dir, 0755)
}

// Build builds the control plane's programs and those named, if they are not in
// the cache yet, and returns their directory. It shows its progress on w.
// Several processes may call it at once; one builds and the others wait.
func Build(ctx context.Context, w io.Writer, also ...string) (string, error) {
	v, err := readVersions(ctx)
	if err != nil {
		return "", err
	}
	dir, err := v.dir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0755); err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	for _, name := range withControlPlane(also) {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := v.build(ctx, w, name, path); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// build compiles one program. It appears under its name only when it is whole.
func (v versions) build(ctx context.Context, w io.Writer, name, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-v",
		"-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion="+v.kubernetes,
		"-o", path+".new", packages[name])
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // the same with and without a C compiler
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("building %s: %w", name, err)
	}
	var steps atomic.Int64
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(10 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				_, _ = fmt.Fprintf(w, "building %s: %d packages so far, %s\n", name, steps.Load(), time.Since(start).Round(time.Second))
			case <-stop:
				return
			}
		}
	}()
	var tail []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		steps.Add(1) // one line for each package that is fetched or compiled
		tail = append(tail, lines.Text())
		tail = tail[max(0, len(tail)-20):]
	}
	err = cmd.Wait()
	close(stop)
	<-stopped
	if err != nil {
		return fmt.Errorf("building %s: %w\n%s", name, err, strings.Join(tail, "\n"))
	}
	_, _ = fmt.Fprintf(w, "built %s in %s\n", name, time.Since(start).Round(time.Second))
	return os.Rename(path+".new", path)
}

// lockFile takes the lock on a file and waits for it.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}
