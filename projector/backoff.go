package projector

import (
	"math/rand/v2"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// backoff doubles a key's wait with each failure in a row, and draws each from
// the upper half of what it would be, so that volumes that failed together do
// not come back together.
type backoff struct {
	workqueue.TypedRateLimiter[Key]
}

func newBackoff() backoff {
	return backoff{workqueue.NewTypedItemExponentialFailureRateLimiter[Key](firstRetry, lastRetry)}
}

// When implements workqueue.TypedRateLimiter.
func (b backoff) When(key Key) time.Duration {
	d := b.TypedRateLimiter.When(key)
	return d/2 + rand.N(d/2+1)
}
