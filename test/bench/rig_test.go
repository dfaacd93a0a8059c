package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/proxy"
)

// rig is a control plane, a node and projectord serving it.
type rig struct {
	*testing.B
	dir     string
	program string
	cluster *devcluster.Cluster
	client  kubernetes.Interface
	daemon  *daemon.Daemon
	proxy   *proxy.Proxy // between the two, if there is one
}

const nodeName = "bench-node"

// newRig starts a control plane and projectord.
func newRig(b *testing.B, apiServerArgs ...string) *rig {
	b.Helper()
	r := newControlPlane(b, apiServerArgs...)
	kubeconfig, err := r.cluster.NodeKubeconfig(nodeName)
	r.must(err)
	r.start(kubeconfig)
	return r
}

// newRigBehind starts them with a proxy in between.
func newRigBehind(b *testing.B, rules proxy.Rules, flags ...string) *rig {
	b.Helper()
	r := newControlPlane(b)
	var err error
	r.proxy, err = proxy.Start(r.cluster, nodeName)
	r.must(err)
	b.Cleanup(r.proxy.Stop)
	r.proxy.Set(rules)
	r.start(r.proxy.Kubeconfig, flags...)
	return r
}

// newControlPlane starts a control plane with the node, and nothing that serves
// it.
func newControlPlane(b *testing.B, apiServerArgs ...string) *rig {
	b.Helper()
	r := &rig{B: b, dir: b.TempDir()}
	b.Cleanup(func() { r.must(isolate.UnmountBelow(r.dir)) })
	var err error
	r.program, err = daemon.Build(b.Context(), r.dir, false)
	r.must(err)
	r.cluster, err = devcluster.Start(b.Context(), devcluster.Config{APIServerArgs: apiServerArgs})
	r.must(err)
	b.Cleanup(func() { r.must(r.cluster.Stop()) })
	r.client, err = r.cluster.Admin()
	r.must(err)
	_, err = r.client.CoreV1().Nodes().Create(b.Context(),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}, metav1.CreateOptions{})
	r.must(err)
	return r
}

// start starts projectord and waits until it is ready.
func (r *rig) start(kubeconfig string, flags ...string) {
	r.Helper()
	var err error
	log := filepath.Join(r.dir, fmt.Sprintf("projectord-%d.log", time.Now().UnixNano()))
	r.daemon, err = daemon.Start(r.program, log, append([]string{
		"--kubeconfig=" + kubeconfig, "--node-name=" + nodeName, "--root-dir=" + r.root()}, flags...)...)
	r.must(err)
	r.Cleanup(r.daemon.Stop)
	r.must(r.daemon.WaitReady(r.Context()))
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) root() string { return filepath.Join(r.dir, "root") }

// namespace makes a namespace and waits until it is filled.
func (r *rig) namespace(name string) {
	r.Helper()
	_, err := r.client.CoreV1().Namespaces().Create(r.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	r.must(err)
	for {
		filled, err := devcluster.NamespaceFilled(r.Context(), r.client, name)
		r.must(err)
		if filled {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// post creates a Pod with the injected volume and returns it and the moment of
// the API server's answer.
func (r *rig) post(namespace, name string) (*corev1.Pod, time.Time) {
	r.Helper()
	pod, err := r.client.CoreV1().Pods(namespace).Create(r.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	answered := time.Now()
	r.must(err)
	return pod, answered
}

// waitFiles waits until the Pod's last file can be opened by its name.
func (r *rig) waitFiles(pod *corev1.Pod) time.Time {
	r.Helper()
	// The writer makes user-visible links in the order of their names.
	last := filepath.Join(r.root(), "pods", string(pod.UID), "volumes", "kubernetes.io~projected", pod.Spec.Volumes[0].Name, "token")
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := os.Stat(last)
		if err == nil {
			return time.Now()
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			r.Fatal(fmt.Errorf("waiting for the files of Pod %s: %w", pod.Name, err))
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// remove deletes a Pod at once.
func (r *rig) remove(namespace, name string) {
	r.Helper()
	now := int64(0)
	r.must(r.client.CoreV1().Pods(namespace).Delete(r.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}
