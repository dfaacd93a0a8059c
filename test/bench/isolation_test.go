package bench

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
		name := fmt.Sprint("bad-", i)
		r.postWithSources("bench", name, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, // there is none
		}})
	}
	beside := percentile(measure("beside"), 99)
	result(b, "isolation", fig("good_alone_p99_ms", "%.1f", ms(alone)), fig("good_with_bad_p99_ms", "%.1f", ms(beside)),
		fig("ratio", "%.2f", ratio(beside, alone)).within(2))
}
