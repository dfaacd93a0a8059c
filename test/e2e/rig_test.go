//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/token-projector/token-projector/test/devcluster"
)

// patience is how long something may take that takes a few seconds.
const patience = time.Minute

// rig is the shared world, as one test sees it.
type rig struct {
	*testing.T
	*world
	ctx       context.Context
	explained bool
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, world: shared, ctx: t.Context()}
	r.atEnd(func() {})
	return r
}

// atEnd is Cleanup, where a test that has failed first says what the cluster is
// like, and where the context has not ended.
func (r *rig) atEnd(cleanUp func()) {
	r.Cleanup(func() {
		r.ctx = context.Background()
		if r.Failed() && !r.explained {
			r.explained = true
			r.Logf("Pods and events:\n%s", r.try("get", "pods,events", "--all-namespaces", "--output=wide"))
			r.Log(r.programsLogs())
		}
		cleanUp()
	})
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// eventually waits for something that another process does.
func (r *rig) eventually(what string, done func() error) {
	r.Helper()
	r.must(within(what, done))
}

// within is eventually, where the test goes on if it takes too long.
func within(what string, done func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := done()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited too long for %s: %w", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// run runs kubectl as the administrator and returns its output.
func (r *rig) run(args ...string) string {
	r.Helper()
	var stderr bytes.Buffer
	cmd := r.command(args)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.Fatalf("kubectl %q: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

// try is run, where the test goes on if it fails.
func (r *rig) try(args ...string) string {
	out, err := r.command(args).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v\n", out, err)
	}
	return string(out)
}

func (r *rig) command(args []string) *exec.Cmd {
	cmd := exec.CommandContext(r.ctx, r.kubectl, append([]string{"--kubeconfig=" + r.kubeconfig}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+r.machine.Dir) // where it keeps what it found out
	return cmd
}

// imageOverride has a kustomization use another image.
type imageOverride struct {
	Name    string `json:"name"` // as the manifests have it, without tag
	NewName string `json:"newName"`
	NewTag  string `json:"newTag"`
}

// apply applies a directory with a kustomization, and deletes it all when the
// test ends.
func (r *rig) apply(dir string, images ...imageOverride) {
	r.Helper()
	overlay := r.TempDir()
	dir, err := filepath.Abs(dir)
	r.must(err)
	base, err := filepath.Rel(overlay, dir) // it takes no absolute path
	r.must(err)
	text, err := yaml.Marshal(map[string]any{"resources": []string{base}, "images": images})
	r.must(err)
	r.must(os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), text, 0600))
	r.atEnd(func() {
		r.run("delete", "--kustomize="+overlay, "--ignore-not-found", "--timeout="+patience.String())
	})
	r.run("apply", "--kustomize="+overlay)
}

// rollout waits until all Pods of a DaemonSet are ready.
func (r *rig) rollout(namespace, daemonSet string) {
	r.Helper()
	r.run("rollout", "status", "--namespace="+namespace, "--timeout="+patience.String(), "daemonset/"+daemonSet)
}

// namespace makes a namespace, fills it, and deletes it when the test ends.
func (r *rig) namespace(name string) {
	r.Helper()
	_, err := r.client.CoreV1().Namespaces().Create(r.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	r.must(err)
	r.atEnd(func() {
		r.must(r.client.CoreV1().Namespaces().Delete(r.ctx, name, metav1.DeleteOptions{}))
	})
	r.eventually("namespace "+name+" to be filled", func() error {
		filled, err := devcluster.NamespaceFilled(r.ctx, r.client, name)
		if err == nil && !filled {
			err = errors.New("its ServiceAccount or ConfigMap is missing")
		}
		return err
	})
}

// restartKubelet restarts the kubelet, and waits until it has begun anew: an API
// server that goes away before that keeps its node from being ready for minutes.
func (r *rig) restartKubelet() {
	r.Helper()
	began := time.Now()
	r.must(r.node.Kubelet.Restart(r.ctx))
	r.waitNode(began)
}

// waitNode waits until the node has been ready for Pods since a moment.
func (r *rig) waitNode(since time.Time) {
	r.Helper()
	r.eventually("the node to be ready", func() error {
		node, err := r.client.CoreV1().Nodes().Get(r.ctx, nodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue &&
				!c.LastHeartbeatTime.Time.Before(since.Truncate(time.Second)) && len(node.Spec.Taints) == 0 {
				return nil
			}
		}
		return fmt.Errorf("taints %v, conditions %v", node.Spec.Taints, node.Status.Conditions)
	})
}

// podOf returns the one Pod with a label.
func (r *rig) podOf(namespace, selector string) *corev1.Pod {
	r.Helper()
	pods, err := r.client.CoreV1().Pods(namespace).List(r.ctx, metav1.ListOptions{LabelSelector: selector})
	r.must(err)
	if len(pods.Items) != 1 {
		r.Fatalf("%d Pods with %s, want 1", len(pods.Items), selector)
	}
	return &pods.Items[0]
}

// runPod creates a Pod and waits until it runs; it is deleted when the test ends.
func (r *rig) runPod(pod *corev1.Pod) *corev1.Pod {
	r.Helper()
	pods := r.client.CoreV1().Pods(pod.Namespace)
	_, err := pods.Create(r.ctx, pod, metav1.CreateOptions{})
	r.must(err)
	r.atEnd(func() {
		now := int64(0)
		err := pods.Delete(r.ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if !apierrors.IsNotFound(err) { // a test may delete it
			r.must(err)
		}
	})
	return r.running(pod)
}

// running waits until a Pod that was created runs.
func (r *rig) running(pod *corev1.Pod) (running *corev1.Pod) {
	r.Helper()
	r.eventually("Pod "+pod.Name+" to run", func() (err error) {
		running, err = r.client.CoreV1().Pods(pod.Namespace).Get(r.ctx, pod.Name, metav1.GetOptions{})
		if err == nil && running.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("it is %s", running.Status.Phase)
		}
		return err
	})
	return running
}

// logs are what a container has printed.
func (r *rig) logs(namespace, pod, container string) string {
	r.Helper()
	return r.run("logs", "--namespace="+namespace, pod, "--container="+container)
}

// hostFile is a file of the node, where its hostPath volumes are.
func (r *rig) hostFile(path string) string {
	r.Helper()
	content, err := os.ReadFile(path)
	r.must(err)
	return string(content)
}
