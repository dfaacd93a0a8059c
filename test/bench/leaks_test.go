package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/token-projector/token-projector/test/proxy"
)

// BenchmarkLeaks rotates 10,000 tokens, of 200 Pods with lifetimes of seconds,
// and compares what projectord holds after the first thousand with what it holds
// in the end.
func BenchmarkLeaks(b *testing.B) {
	const pods, warm, rotations = 200, 1000, 10_000
	r := newRigBehind(b, proxy.Rules{Lifetime: 2 * time.Second}, "--kube-api-qps=1000")
	r.namespace("leaks")
	for i := range pods {
		r.post("leaks", fmt.Sprint("pod-", i))
	}
	before := r.holdingsAfter(warm)
	after := r.holdingsAfter(warm + rotations)
	result(b, "leaks", fig("rotations", "%.0f", rotations),
		fig("goroutines_before", "%.0f", before.goroutines), fig("goroutines_after", "%.0f", after.goroutines).atMost(before.goroutines+10),
		fig("fds_before", "%.0f", before.fds), fig("fds_after", "%.0f", after.fds).atMost(before.fds+5),
		fig("inotify_before", "%.0f", before.inotify), fig("inotify_after", "%.0f", after.inotify).atMost(before.inotify),
		fig("rss_mib_before", "%.0f", before.rss), fig("rss_mib_after", "%.0f", after.rss).atMost(1.3*before.rss+5))
}

type holdings struct{ goroutines, fds, inotify, rss float64 }

// holdingsAfter waits for so many rotations and looks.
func (r *rig) holdingsAfter(rotations float64) (h holdings) {
	r.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, metrics, err := r.daemon.Get(r.Context(), "/metrics")
		r.must(err)
		if metric(r.B, metrics, "projectord_rotation_lateness_seconds_count") >= rotations {
			break
		}
		if time.Now().After(deadline) {
			r.Fatalf("waited too long for %.0f rotations", rotations)
		}
	}
	// The least of some looks: passes that are under way have goroutines too.
	for i := range 30 {
		_, metrics, err := r.daemon.Get(r.Context(), "/metrics")
		r.must(err)
		goroutines, fds := metric(r.B, metrics, "go_goroutines"), metric(r.B, metrics, "process_open_fds")
		if i == 0 {
			h.goroutines, h.fds = goroutines, fds
		}
		h.goroutines, h.fds = min(h.goroutines, goroutines), min(h.fds, fds)
		time.Sleep(20 * time.Millisecond)
	}
	h.rss = r.rssMiB()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", r.daemon.PID()))
	r.must(err)
	for _, f := range files {
		if content, err := os.ReadFile(f); err == nil { // one that was closed meanwhile counts nothing
			h.inotify += float64(strings.Count(string(content), "inotify wd:"))
		}
	}
	return h
}
