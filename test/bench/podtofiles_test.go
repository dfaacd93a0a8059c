package bench

import (
	"fmt"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkPodToFiles measures from the API server's answer to the creation of
// a Pod until all files of its injected volume can be opened, for 200 Pods one
// after another, each beside a bare TokenRequest for it on a connection that is
// kept alive; then for 60 Pods that are posted one after another without
// waiting, and by 60 workers at once.
func BenchmarkPodToFiles(b *testing.B) {
	for b.Loop() {
		podToFiles(b)
	}
}

func podToFiles(b *testing.B) {
	const n = 200
	r := newRig(b, auditFlags(b)...)
	r.namespace("bench")
	var files, bare []time.Duration
	var pods []measured
	for i := range n {
		pod, answered := r.post("bench", fmt.Sprint("one-", i))
		published := r.waitFiles(pod)
		files = append(files, published.Sub(answered))
		pods = append(pods, measured{pod.Name, answered, published})
		bare = append(bare, r.bareRequest(pod))
	}
	serial := r.burst(func(post func(i int)) {
		for i := range burstSize {
			post(i)
		}
	}, "serial")
	parallel := r.burst(func(post func(i int)) {
		var wg sync.WaitGroup
		for i := range burstSize {
			wg.Go(func() { post(i) })
		}
		wg.Wait()
	}, "parallel")
	bare50 := percentile(bare, 50)
	p50, p99 := percentile(files, 50), percentile(files, 99)
	result(b, "pod_to_files", fig("n", "%.0f", n),
		fig("p50_ms", "%.1f", ms(p50)), fig("p99_ms", "%.1f", ms(p99)), fig("bare_p50_ms", "%.1f", ms(bare50)),
		fig("p50_ratio", "%.2f", ratio(p50, bare50)).within(2), fig("p99_ratio", "%.2f", ratio(p99, bare50)).within(6),
		fig("burst60_serial_p99_ms", "%.0f", ms(percentile(serial, 99))).within(60),
		fig("burst60_parallel_p99_ms", "%.0f", ms(percentile(parallel, 99))).within(250))
	r.breakdown(pods)
}

const burstSize = 60

// burst posts Pods in some way and returns how long each took.
func (r *rig) burst(how func(post func(i int)), name string) []time.Duration {
	type posted struct {
		pod *corev1.Pod
		at  time.Time
	}
	out := make([]time.Duration, burstSize)
	var waiters sync.WaitGroup
	how(func(i int) {
		var p posted
		p.pod, p.at = r.post("bench", fmt.Sprint(name, "-", i))
		waiters.Go(func() { out[i] = r.waitFiles(p.pod).Sub(p.at) })
	})
	waiters.Wait()
	return out
}

// bareRequest is the peer: one TokenRequest like the daemon's, as admin.
func (r *rig) bareRequest(pod *corev1.Pod) time.Duration {
	r.Helper()
	seconds := int64(3607)
	start := time.Now()
	_, err := r.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(r.Context(), pod.Spec.ServiceAccountName,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &seconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
		}}, metav1.CreateOptions{})
	took := time.Since(start)
	r.must(err)
	return took
}

func ratio(ours, peer time.Duration) float64 { return float64(ours) / float64(peer) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
