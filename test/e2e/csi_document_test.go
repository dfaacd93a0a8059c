//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCSIDocument does what docs/csi.md says.
func TestCSIDocument(t *testing.T) {
	r := newRig(t)
	dir := r.workingCopy()
	doc := r.document("csi.md", dir)
	before := len(r.ourMounts())
	r.atEnd(func() { r.run("delete", "--ignore-not-found", "--kustomize="+filepath.Join(dir, "deploy/daemonset")) })
	doc.next("deploy/daemonset")
	if out := doc.next("deployment.yaml"); !strings.Contains(out, "default/default (UID") {
		t.Errorf("inspect says %q", out)
	}
	for i, block := range r.yamlBlocks("csi.md") {
		file := filepath.Join(dir, fmt.Sprintf("block-%d.yaml", i))
		r.must(os.WriteFile(file, []byte(block), 0600))
		r.run("apply", "--filename="+file)
	}
	r.eventually("Pod two-audiences to run", func() error {
		pod, err := r.client.CoreV1().Pods("default").Get(r.ctx, "two-audiences", metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return err
	})
	doc.next("csi-objects")
	if out := doc.next("k0s"); !strings.Contains(out, "daemonset.apps/projectord") {
		t.Errorf("the dry run says %q", out)
	}
	doc.next("delete -k my-projectord")
	doc.done()
	for _, role := range []string{"token-audience-vault", "projectord", "projectord-audiences"} {
		if _, err := r.client.RbacV1().ClusterRoles().Get(r.ctx, role, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("ClusterRole %s: %v", role, err)
		}
	}
	for _, socket := range []string{driverSocket, "/var/lib/kubelet/plugins_registry/" + driverName + "-reg.sock", root} {
		if exists(socket) {
			t.Errorf("%s is left", socket)
		}
	}
	if left := r.ourMounts(); len(left) != before {
		t.Errorf("mounts are left: %q", left)
	}
}

// yamlBlocks are those of one of docs/.
func (r *rig) yamlBlocks(name string) (blocks []string) {
	r.Helper()
	parts := strings.Split(r.hostFile(filepath.Join(repository, "docs", name)), "\n```yaml\n")
	for _, part := range parts[1:] {
		block, _, _ := strings.Cut(part, "\n```\n")
		blocks = append(blocks, block+"\n")
	}
	if len(blocks) == 0 {
		r.Fatalf("%s has no block of YAML", name)
	}
	return blocks
}
