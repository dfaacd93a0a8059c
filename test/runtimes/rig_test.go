//go:build runtimes

package runtimes

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/proxy"
)

const (
	// lifetime of the tokens, which are rotated when they are maxAge old.
	lifetime = 20 * time.Second
	maxAge   = 10 * time.Second
	// refused is the age at which the API server refuses a token for certain: it allows
	// for clocks that differ by a minute, and knows what it has accepted for 10 s. client-go
	// uses a token for 50 s after it has read it, which is less than that.
	refused = lifetime + 70*time.Second
)

// rig is a node without a kubelet: projectord, which serves its socket and nothing else.
type rig struct {
	*testing.T
	ctx        context.Context
	client     kubernetes.Interface
	node, ns   string
	dir        string
	socket     string
	proxy      *proxy.Proxy
	projectord *daemon.Daemon
	volumes    api.VolumeServiceClient
}

var rigs atomic.Int64

func newRig(t *testing.T, flags ...string) *rig {
	t.Helper()
	return newRigOn(t, "/run/"+t.Name()+"/admin/projectord.sock", flags...)
}

func newRigOn(t *testing.T, socket string, flags ...string) *rig {
	t.Helper()
	n := rigs.Add(1)
	r := &rig{T: t, ctx: t.Context(), dir: t.TempDir(), node: fmt.Sprint("node-", n), ns: fmt.Sprint("runtimes-", n), socket: socket}
	t.Cleanup(func() { r.must(isolate.UnmountBelow(r.dir)) }) // volumes outlive projectord
	var err error
	r.client, err = shared.Admin()
	r.must(err)
	_, err = r.client.CoreV1().Nodes().Create(r.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: r.node}}, metav1.CreateOptions{})
	r.must(err)
	_, err = r.client.CoreV1().Namespaces().Create(r.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.ns}}, metav1.CreateOptions{})
	r.must(err)
	r.eventually("the namespace to be filled", func() bool {
		filled, err := devcluster.NamespaceFilled(r.ctx, r.client, r.ns)
		return err == nil && filled
	})
	r.proxy, err = proxy.Start(shared, r.node)
	r.must(err)
	t.Cleanup(r.proxy.Stop)
	r.proxy.Set(proxy.Rules{Lifetime: lifetime})
	conn, err := grpc.NewClient("unix:"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	r.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	r.volumes = api.NewVolumeServiceClient(conn)
	r.start(flags...)
	r.waitReady()
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// eventually waits for something that another process does.
func (r *rig) eventually(what string, done func() bool) {
	r.Helper()
	for deadline := time.Now().Add(2 * refused); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("waited too long for %s", what)
		}
	}
}

func (r *rig) root() string { return filepath.Join(r.dir, "root") }

// start runs projectord, in the place of one that has ended.
func (r *rig) start(flags ...string) {
	r.Helper()
	log := filepath.Join(r.dir, fmt.Sprintf("projectord-%d.log", time.Now().UnixNano()))
	d, err := daemon.Start(projectord, log, append([]string{"--kubeconfig=" + r.proxy.Kubeconfig, "--node-name=" + r.node, "--root-dir=" + r.root(),
		"--socket=" + r.socket, "--pod-source=none", "--rotation-max-age=" + maxAge.String()}, flags...)...)
	r.must(err)
	r.projectord = d
	r.Cleanup(func() {
		d.Stop()
		if text := d.Log(); r.Failed() || strings.Contains(text, "panic") {
			r.Errorf("log of projectord:\n%s", text)
		}
	})
}

func (r *rig) waitReady() {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	r.must(r.projectord.WaitReady(ctx))
}

// pod makes the Pod web on the node, and says which volume Kubernetes has given it.
func (r *rig) pod() (pod *corev1.Pod, volume string) {
	r.Helper()
	pod, err := r.client.CoreV1().Pods(r.ns).Create(r.ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: r.ns},
		Spec:       corev1.PodSpec{NodeName: r.node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	r.must(err)
	return pod, pod.Spec.Volumes[0].Name
}

func (r *rig) deletePod(pod *corev1.Pod) {
	r.Helper()
	now := int64(0)
	r.must(r.client.CoreV1().Pods(r.ns).Delete(r.ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

// volume is what projectord says of a volume; nil if it has none.
func (r *rig) volume(pod *corev1.Pod) *api.Volume {
	r.Helper()
	list, err := r.volumes.ListVolumes(r.ctx, &api.ListVolumesRequest{PodUid: string(pod.UID)})
	r.must(err)
	if len(list.GetVolumes()) == 0 {
		return nil
	}
	return list.GetVolumes()[0]
}

// nothingLeft checks that there is no volume, and nothing of one.
func (r *rig) nothingLeft() {
	r.Helper()
	list, err := r.volumes.ListVolumes(r.ctx, &api.ListVolumesRequest{})
	r.must(err)
	left, err := filepath.Glob(filepath.Join(r.root(), "pods", "*"))
	r.must(err)
	mounted, err := os.ReadFile("/proc/self/mountinfo")
	r.must(err)
	if len(list.GetVolumes()) > 0 || len(left) > 0 || strings.Contains(string(mounted), r.dir) {
		r.Errorf("left: volumes %v, directories %q, mounts:\n%s", list.GetVolumes(), left, mounted)
	}
}

// lastLine reads the last line of a file of JSON lines.
func lastLine(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	last := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		last = lines.Text()
	}
	return json.Unmarshal([]byte(last), into)
}
