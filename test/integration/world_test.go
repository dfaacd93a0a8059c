package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/daemon"
	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/test/referee"
)

// world is what one test works in.
type world struct {
	*testing.T
	ctx     context.Context
	cluster *devcluster.Cluster
	client  kubernetes.Interface
	node    string
	ns      string
	dir     string
}

// patience is how long anything may take that should take a moment.
const patience = 60 * time.Second

var worlds atomic.Int64

func newWorld(t *testing.T, cluster *devcluster.Cluster) *world {
	t.Helper()
	w := &world{T: t, ctx: t.Context(), cluster: cluster, dir: t.TempDir()}
	t.Cleanup(func() { w.must(isolate.UnmountBelow(w.dir)) }) // volumes outlive the daemon
	var err error
	w.client, err = cluster.Admin()
	w.must(err)
	n := worlds.Add(1)
	w.node, w.ns = fmt.Sprintf("node-%d", n), fmt.Sprintf("test-%d", n)
	w.createNode(w.node)
	_, err = w.client.CoreV1().Namespaces().Create(w.ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns}}, metav1.CreateOptions{})
	w.must(err)
	w.eventually("the namespace to be filled", func() bool {
		filled, err := devcluster.NamespaceFilled(w.ctx, w.client, w.ns)
		w.must(err)
		return filled
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// eventually waits for something that another process does.
func (w *world) eventually(what string, done func() bool) {
	w.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			w.Fatalf("waited %s for %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) createNode(name string) {
	w.Helper()
	_, err := w.client.CoreV1().Nodes().Create(w.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	w.must(err)
}

func (w *world) nodeKubeconfig() string {
	w.Helper()
	path, err := w.cluster.NodeKubeconfig(w.node)
	w.must(err)
	return path
}

func (w *world) root() string { return filepath.Join(w.dir, "root") }

// start runs projectord as the world's node, with more flags, and stops it
// when the test ends. It must not have found a race by then.
func (w *world) start(flags ...string) *daemon.Daemon {
	w.Helper()
	return w.startWith(append([]string{"--kubeconfig=" + w.nodeKubeconfig()}, flags...)...)
}

// startWith runs projectord with these flags besides the node's name and the
// root directory.
func (w *world) startWith(flags ...string) *daemon.Daemon {
	w.Helper()
	log := filepath.Join(w.dir, fmt.Sprintf("projectord-%d.log", time.Now().UnixNano()))
	d, err := daemon.Start(program, log, append([]string{"--node-name=" + w.node, "--root-dir=" + w.root()}, flags...)...)
	w.must(err)
	w.Cleanup(func() {
		d.Stop()
		text := d.Log()
		if strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
			w.Errorf("projectord had a race or a panic:\n%s", text)
		}
		if w.Failed() {
			w.Logf("log of projectord:\n%s", text)
		}
	})
	return d
}

func (w *world) startReady(flags ...string) *daemon.Daemon {
	w.Helper()
	d := w.start(flags...)
	w.waitReady(d)
	return d
}

func (w *world) waitReady(d *daemon.Daemon) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	w.must(d.WaitReady(ctx))
}

// newPod is a Pod on the world's node, before admission.
func (w *world) newPod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.ns},
		Spec:       corev1.PodSpec{NodeName: w.node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
}

// create creates a Pod and returns it as admission left it.
func (w *world) create(pod *corev1.Pod) *corev1.Pod {
	w.Helper()
	created, err := w.client.CoreV1().Pods(w.ns).Create(w.ctx, pod, metav1.CreateOptions{})
	w.must(err)
	return created
}

func (w *world) deletePod(pod *corev1.Pod) {
	w.Helper()
	now := int64(0)
	w.must(w.client.CoreV1().Pods(w.ns).Delete(w.ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

// volume is where a Pod's volume lies.
func (w *world) volume(pod *corev1.Pod, name string) string {
	return filepath.Join(w.root(), "pods", string(pod.UID), "volumes", "kubernetes.io~projected", name)
}

// tokenFiles are the token files that a Pod should have, by its spec.
func (w *world) tokenFiles(pod *corev1.Pod) []referee.File { return referee.TokenFiles(pod, w.root()) }

// waitFile waits for a file and returns what is in it.
func (w *world) waitFile(path string) string {
	w.Helper()
	var content []byte
	w.eventually(path, func() bool {
		var err error
		content, err = os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.Fatal(err)
		}
		return err == nil
	})
	return string(content)
}

// review says what the API server thinks of a token.
func (w *world) review(f referee.File, token string) error {
	return referee.Review(w.ctx, w.client, f, token)
}

// tokenID is a token's jti.
func (w *world) tokenID(token string) string {
	w.Helper()
	return w.claims(token).ID
}

func (w *world) claims(token string) rotation.Claims {
	w.Helper()
	claims, err := rotation.ParseClaims(token)
	w.must(err)
	return claims
}

// exists says whether there is anything at path.
func (w *world) exists(path string) bool {
	w.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.Fatal(err)
	}
	return err == nil
}
