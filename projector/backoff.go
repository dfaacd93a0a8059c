package projector

import (
	"errors"
	"math/rand/v2"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// The waits of a volume whose pass failed.
const (
	// catchUpRetry is the first where the API server's caches have not seen a new
	// Pod yet, which takes milliseconds.
	catchUpRetry = 2 * time.Millisecond
	// firstRetry is the first after any other failure.
	firstRetry = 500 * time.Millisecond
	// lastRetry is the longest while the volume's tokens are valid: what an
	// outage has delayed comes back spread over it.
	lastRetry = 2 * time.Minute
	// urgentRetry is the longest where nothing valid is published.
	urgentRetry = 30 * time.Second
	// finalRetry is the shortest before tokens lapse.
	finalRetry = time.Second
)

// backoff doubles a key's wait with each failure in a row.
type backoff struct {
	limiter workqueue.TypedRateLimiter[Key]
}

func newBackoff() backoff {
	return backoff{workqueue.NewTypedItemExponentialFailureRateLimiter[Key](catchUpRetry, lastRetry)}
}

func (b backoff) forget(key Key) { b.limiter.Forget(key) }

// wait is how long a volume waits whose pass failed, and whose first token
// lapses at deadline, which is zero if none is published. What an error asks for
// (RetryAfter) is honoured as far as the deadline allows. Each wait is drawn from
// the upper half of what it would be, so that volumes that failed together do
// not come back together.
func (b backoff) wait(key Key, err error, deadline time.Time) time.Duration {
	d := b.limiter.When(key)
	if !errors.Is(err, ErrCatchingUp) {
		d = max(d, firstRetry)
	}
	atMost := urgentRetry
	if left := time.Until(deadline); left > 0 {
		atMost = max(left/4, finalRetry)
	}
	d = min(d, atMost)
	d = d/2 + rand.N(d/2+1)
	after, _ := RetryAfter(err)
	return max(d, min(after, atMost))
}
