//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/internal/mount"
	"github.com/token-projector/token-projector/test/referee"
)

// crashPod creates a Pod that has a volume of the driver and does nothing with it.
func (r *rig) crashPod(name string) *corev1.Pod {
	r.Helper()
	pod := idle(name, nil)
	pod.Namespace = "csi-crash"
	created, err := r.client.CoreV1().Pods(pod.Namespace).Create(r.ctx, pod, metav1.CreateOptions{})
	r.must(err)
	return created
}

// runs waits until a Pod does, with one volume of a token that the API server takes
// for the Pod's.
func (r *rig) runs(pod *corev1.Pod) error {
	err := within("Pod "+pod.Name+" to run", func() error {
		now, err := r.client.CoreV1().Pods(pod.Namespace).Get(r.ctx, pod.Name, metav1.GetOptions{})
		if err == nil && now.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("it is %s", now.Status.Phase)
		}
		return err
	})
	if err != nil {
		return err
	}
	if n := r.mountsOf(pod); n != 1 {
		return fmt.Errorf("%d mounts for the one volume of Pod %s", n, pod.Name)
	}
	token, err := os.ReadFile(filepath.Join(csiVolume(pod), "token"))
	if err != nil {
		return err
	}
	return referee.Review(r.ctx, r.client, referee.File{
		User: "system:serviceaccount:csi-crash:default", PodName: pod.Name, PodUID: string(pod.UID),
	}, string(token))
}

// remove asks for the end of a Pod, unless it was asked for already.
func (r *rig) remove(pod *corev1.Pod) {
	r.Helper()
	if err := r.client.CoreV1().Pods(pod.Namespace).Delete(r.ctx, pod.Name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		r.must(err)
	}
}

// goes has a Pod end and waits for it: nothing of its volume may be left then.
func (r *rig) goes(pod *corev1.Pod) error {
	r.Helper()
	r.remove(pod)
	err := within("Pod "+pod.Name+" to go", func() error {
		now, err := r.client.CoreV1().Pods(pod.Namespace).Get(r.ctx, pod.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil:
			return fmt.Errorf("it is %s", now.Status.Phase)
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.leftOf(pod)
}

// leftOf says what there is of the volume of a Pod that is gone.
func (r *rig) leftOf(pod *corev1.Pod) error {
	if n := r.mountsOf(pod); n > 0 {
		return fmt.Errorf("%d mounts of Pod %s are left", n, pod.Name)
	}
	if exists(csiVolume(pod)) {
		return fmt.Errorf("%s is left", csiVolume(pod))
	}
	return nil
}

// mountsOf counts what is mounted at the volume of a Pod.
func (r *rig) mountsOf(pod *corev1.Pod) (n int) {
	for _, point := range r.ourMounts() {
		if point == csiVolume(pod) {
			n++
		}
	}
	return n
}

// passing are the parts of mount points that another run of a container has otherwise.
var passing = regexp.MustCompile(`[0-9a-f]{64}|cni-[0-9a-f-]{36}`)

// mountPoints are those of the node.
func (r *rig) mountPoints() (points []string) {
	r.Helper()
	for line := range strings.Lines(r.hostFile("/proc/self/mountinfo")) {
		points = append(points, passing.ReplaceAllString(strings.Fields(line)[4], "ID"))
	}
	slices.Sort(points)
	return points
}

// podDirs are what the kubelet has of Pods.
func (r *rig) podDirs() []string {
	r.Helper()
	names, err := filepath.Glob("/var/lib/kubelet/pods/*")
	r.must(err)
	return names
}

// seesLeaks is a control: what is said of a Pod that runs must not be good where it is
// not.
func (r *rig) seesLeaks(pod *corev1.Pod) {
	r.Helper()
	before := r.mountPoints()
	if err := r.leftOf(pod); err == nil {
		r.Error("the mount of a Pod that runs is not seen")
	}
	r.must(unix.Mount(mount.Source, csiVolume(pod), "tmpfs", 0, ""))
	if err := r.runs(pod); err == nil || slices.Equal(r.mountPoints(), before) {
		r.Errorf("a second mount is not seen: %v", err)
	}
	r.must(unix.Unmount(csiVolume(pod), 0))
	r.must(r.runs(pod))
}
