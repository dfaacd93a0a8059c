package bench

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"

	"github.com/token-projector/token-projector/projector"
)

// BenchmarkQueue schedules due times as the projector does, on client-go's
// queue: how long adding all keys takes, what they weigh, and how late keys
// come that are due at the same moment.
func BenchmarkQueue(b *testing.B) {
	for b.Loop() {
		for _, n := range []int{10_000, 100_000} {
			queueOf(b, n)
		}
	}
}

func queueOf(b *testing.B, n int) {
	keys := make([]projector.Key, n)
	for i := range keys {
		keys[i] = projector.Key{PodUID: types.UID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)), Volume: "kube-api-access"}
	}
	heap := heapMiB()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[projector.Key](time.Millisecond, time.Second))
	start := time.Now()
	for i, key := range keys {
		queue.AddAfter(key, time.Hour+time.Duration(i)*time.Millisecond)
	}
	added := time.Since(start)
	weight := heapMiB() - heap

	due := time.Now().Add(time.Second) // later than all are added
	for _, key := range keys {         // sooner than before: all at one moment
		queue.AddAfter(key, time.Until(due))
	}
	var worst time.Duration
	for range keys {
		key, shut := queue.Get()
		if shut {
			b.Fatal("the queue was shut")
		}
		worst = max(worst, time.Since(due))
		queue.Done(key)
	}
	queue.ShutDown()
	runtime.KeepAlive(keys)
	result(b, "queue", fig("keys", "%.0f", float64(n)), fig("add_ms", "%.0f", ms(added)),
		fig("heap_mib", "%.1f", weight), fig("all_due_last_late_ms", "%.0f", ms(worst)))
}

func heapMiB() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
