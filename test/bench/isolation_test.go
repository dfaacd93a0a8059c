package bench

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// BenchmarkIsolation measures from a Pod's creation to its files for 50 Pods at
// a time, alone, and beside 50 whose volumes can't be served and are retried; four
// times each, because the slowest of 50 is mostly chance.
func BenchmarkIsolation(b *testing.B) {
	const n, rounds = 50, 4
	r := newRig(b)
	r.namespace("bench")
	measure := func(name string) (times []time.Duration) {
		for i := range n {
			pod, answered := r.post("bench", fmt.Sprint(name, "-", i))
			times = append(times, r.waitFiles(pod).Sub(answered))
		}
		return times
	}
	var alone, beside []time.Duration
	for round := range rounds {
		alone = append(alone, measure(fmt.Sprint("alone-", round))...)
		bad := make([]string, n)
		for i := range n {
			bad[i] = fmt.Sprint("bad-", round, "-", i)
			r.postWithSources("bench", bad[i], corev1.VolumeProjection{Secret: &corev1.SecretProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: bad[i]}, // there is none
			}})
		}
		beside = append(beside, measure(fmt.Sprint("beside-", round))...)
		for _, name := range bad {
			r.remove("bench", name)
		}
	}
	a, w := percentile(alone, 99), percentile(beside, 99)
	result(b, "isolation", fig("n", "%.0f", n*rounds), fig("good_alone_p99_ms", "%.1f", ms(a)), fig("good_with_bad_p99_ms", "%.1f", ms(w)),
		fig("good_alone_p50_ms", "%.1f", ms(percentile(alone, 50))), fig("good_with_bad_p50_ms", "%.1f", ms(percentile(beside, 50))),
		fig("ratio", "%.2f", ratio(w, a)).within(2))
}
