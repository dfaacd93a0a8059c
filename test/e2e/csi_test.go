//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/test/devcluster"
	"github.com/token-projector/token-projector/test/proxy"
)

// consumerImage has the program of the directory consumer.
const consumerImage = "localhost/token-projector-consumer:test"

// TestCSI has Pods mount our volumes, and use them with stock client-go while the
// driver's Pod is replaced.
func TestCSI(t *testing.T) {
	r := newRig(t)
	r.namespace("csi")
	r.service.Set(proxy.Rules{Lifetime: short})
	defer r.service.Set(proxy.Rules{})
	r.apply(filepath.Join(repository, "deploy/daemonset/csi"))
	r.rollout(namespace, namespace)
	r.eventually("the kubelet to know the driver", func() error {
		node, err := r.client.StorageV1().CSINodes().Get(r.ctx, nodeName, metav1.GetOptions{})
		if err == nil && len(node.Spec.Drivers) != 1 {
			err = errors.New("it does not")
		}
		return err
	})
	mounts := r.ourMounts()
	before := len(mounts)

	plain := r.runPod(r.csiConsumer("plain", nil))
	other := r.csiConsumer("other-user", map[string]string{"defaultMode": "0400"})
	other.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1234)), RunAsGroup: new(int64(1234)), FSGroup: new(int64(4321))}
	owned := r.runPod(other)
	pods := []*corev1.Pod{plain, owned}
	if n := len(r.ourMounts()) - before; n != 2 {
		t.Errorf("%d mounts for two Pods", n)
	}

	last := map[string]string{}
	rotations := 0
	for deadline := time.Now().Add(5 * short); rotations < 4; time.Sleep(100 * time.Millisecond) {
		for _, pod := range pods {
			token := r.waitFile(csiToken(pod))
			if last[pod.Name] != "" && token != last[pod.Name] {
				rotations++
			}
			last[pod.Name] = token
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d rotations\n%s", rotations, r.log())
		}
	}
	// The same mounts go on in a new process, and in one that comes after a kill.
	devices := []uint64{r.device(plain), r.device(owned)}
	daemon, err := r.daemonPod()
	r.must(err)
	r.run("delete", "pod", "--namespace="+namespace, daemon.Name, "--wait")
	r.rollout(namespace, namespace)
	for i, pod := range pods {
		r.eventually("a rotation by the new process", func() error {
			if r.waitFile(csiToken(pod)) == last[pod.Name] {
				return errors.New("the token is the old one")
			}
			return nil
		})
		if now := r.device(pod); now != devices[i] {
			t.Errorf("Pod %s: the mount is another one", pod.Name)
		}
	}

	requests := 0
	for _, id := range r.processes("consumer") {
		r.must(syscall.Kill(id, syscall.SIGTERM))
	}
	for _, pod := range pods {
		report := r.podReport(pod)
		requests += report.Requests
		if report.Failed > 0 || report.Requests == 0 || report.Unready > 0 || report.Unreachable > 0 {
			t.Errorf("Pod %s: %+v", pod.Name, report)
		}
	}
	fmt.Printf("RESULT e2e_csi pods=%d rotations=%d requests=%d failed=0\n", len(pods), rotations, requests)
	for _, pod := range pods {
		r.run("delete", "pod", "--namespace=csi", pod.Name, "--now")
	}
	if left := r.ourMounts(); len(left) != before {
		t.Errorf("mounts are left: %q", left)
	}
}

// TestCSIRefuses: a Pod with a wrong attribute waits, and its Events say which.
func TestCSIRefuses(t *testing.T) {
	r := newRig(t)
	r.namespace("csi-refuses")
	r.apply(filepath.Join(repository, "deploy/daemonset/csi"))
	r.rollout(namespace, namespace)
	pod := r.csiConsumer("wrong", map[string]string{"sources": "- serviceAccountToken: {audience: vault}"})
	pod.Namespace = "csi-refuses"
	_, err := r.client.CoreV1().Pods(pod.Namespace).Create(r.ctx, pod, metav1.CreateOptions{})
	r.must(err)
	r.eventually("an Event", func() error {
		if events := r.try("get", "events", "--namespace=csi-refuses"); !strings.Contains(events, "sources[0]: serviceAccountToken.path is required") {
			return errors.New(events)
		}
		return nil
	})
	r.run("delete", "pod", "--namespace=csi-refuses", "wrong", "--now")
	if left := r.ourMounts(); len(left) > 0 {
		t.Errorf("mounts are left: %q", left)
	}
}

// csiConsumer is a Pod that uses a volume of the driver.
func (r *rig) csiConsumer(name string, attributes map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "csi"},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "c", Image: consumerImage,
				Args:         []string{"https://" + devcluster.ServiceIP, "/tokens", "system:serviceaccount:csi:default"},
				VolumeMounts: []corev1.VolumeMount{{Name: "tokens", MountPath: "/tokens", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "tokens", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
				Driver: driverName, ReadOnly: new(true), VolumeAttributes: attributes,
			}}}},
		},
	}
}

func csiVolume(pod *corev1.Pod) string {
	return csiTarget(pod, "tokens")
}

func csiToken(pod *corev1.Pod) string { return filepath.Join(csiVolume(pod), "token") }

// device is what a Pod's volume is mounted from.
func (r *rig) device(pod *corev1.Pod) uint64 {
	r.Helper()
	var st syscall.Stat_t
	r.must(syscall.Stat(csiVolume(pod), &st))
	return st.Dev
}

// ourMounts are those that projectord has made.
func (r *rig) ourMounts() (points []string) {
	r.Helper()
	for line := range strings.Lines(r.hostFile("/proc/self/mountinfo")) {
		if strings.Contains(line, " - tmpfs projectord ") {
			points = append(points, strings.Fields(line)[4])
		}
	}
	return points
}

// podReport is what a consumer in a Pod prints when it ends.
func (r *rig) podReport(pod *corev1.Pod) (report consumed) {
	r.Helper()
	r.eventually("Pod "+pod.Name+" to end", func() error {
		now, err := r.client.CoreV1().Pods(pod.Namespace).Get(r.ctx, pod.Name, metav1.GetOptions{})
		if err == nil && now.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("it is %s", now.Status.Phase)
		}
		return err
	})
	r.must(json.Unmarshal([]byte(r.logs(pod.Namespace, pod.Name, "c")), &report))
	return report
}
