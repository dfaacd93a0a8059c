package bench

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkIsolation measures from a Pod's creation to its files for 50 Pods,
// alone, and again beside 50 whose volumes can't be served and are retried.
func BenchmarkIsolation(b *testing.B) {
	const n = 50
	r := newRig(b)
	r.namespace("bench")
	measure := func(name string) (times []time.Duration) {
		for i := range n {
			pod, answered := r.post("bench", fmt.Sprint(name, "-", i))
			times = append(times, r.waitFiles(pod).Sub(answered))
		}
		return times
	}
	alone := percentile(measure("alone"), 99)
	for i := range n {
		r.postBroken("bench", fmt.Sprint("bad-", i))
	}
	beside := percentile(measure("beside"), 99)
	result(b, "isolation", fig("good_alone_p99_ms", "%.1f", ms(alone)), fig("good_with_bad_p99_ms", "%.1f", ms(beside)),
		fig("ratio", "%.2f", ratio(beside, alone)).within(2))
}

// postBroken creates a Pod whose volume names a Secret that does not exist.
func (r *rig) postBroken(ns, name string) {
	r.Helper()
	no := false
	_, err := r.client.CoreV1().Pods(ns).Create(r.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		Spec: corev1.PodSpec{
			NodeName: nodeName, AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{Name: "c", Image: "none", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
					{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
				},
			}}}},
		},
	}, metav1.CreateOptions{})
	r.must(err)
}
