//go:build e2e

package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/node"
)

// TestKubeletRestart restarts the kubelet below a Pod of the host's network, which
// runs on.
func TestKubeletRestart(t *testing.T) {
	r := newRig(t)
	r.namespace("restart")
	pod := r.runPod(probePod("before", corev1.PodSpec{HostNetwork: true}))
	if pod.Status.PodIP != node.IP {
		t.Errorf("its address is %s, want the node's", pod.Status.PodIP)
	}
	r.restartKubelet()
	next := r.runPod(probePod("after", corev1.PodSpec{}))
	if next.Status.PodIP == node.IP {
		t.Errorf("a Pod's address is the node's, %s", node.IP)
	}
	after, err := r.client.CoreV1().Pods("restart").Get(r.ctx, "before", metav1.GetOptions{})
	r.must(err)
	if before, now := pod.Status.ContainerStatuses[0].ContainerID, after.Status.ContainerStatuses[0].ContainerID; before != now {
		t.Errorf("its container was %s and is %s", before, now)
	}
	if r.report(after).User.Username != "system:serviceaccount:restart:default" {
		t.Errorf("it is %+v", r.report(after).User)
	}
}

// probePod is a Pod that runs the probe.
func probePod(name string, spec corev1.PodSpec) *corev1.Pod {
	spec.Containers = []corev1.Container{{
		Name: "probe", Image: probeImage,
		Env: []corev1.EnvVar{{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}},
	}}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "restart", Name: name}, Spec: spec}
}
