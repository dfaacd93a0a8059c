package rotation

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"
)

// maxWaiting is how many wait in a lane for a valid token's replacement. More
// would keep the goroutines busy that first tokens need.
const maxWaiting = 16

// busyError says that a token could not be replaced yet, and when to try again.
type busyError struct{ after time.Duration }

func (busyError) Error() string {
	return "more tokens are due than may be requested; raise the rate (--kube-api-qps of projectord)"
}

// RetryAfter is how long until those that wait now are served.
func (e busyError) RetryAfter() time.Duration { return e.after }

// Pace bounds how many tokens are requested, in two lanes that do not wait for
// each other: first tokens, for which a Pod waits, and replacements. Where
// replacements must wait, those with the earliest deadline go first, so those
// that have expired before all others; where too many wait, another whose token is
// valid gets an error with a method RetryAfter. It may be used by many
// goroutines.
type Pace struct{ first, replace *lane }

// NewPace returns a pace of so many requests a second in each lane, with bursts.
func NewPace(perSecond float64, burst int) (*Pace, error) {
	if !(perSecond > 0) || burst < 1 {
		return nil, fmt.Errorf("pace of %v requests a second in bursts of %d: want more than 0, and at least 1", perSecond, burst)
	}
	return &Pace{first: newLane(perSecond, burst), replace: newLane(perSecond, burst)}, nil
}

// wait returns when a token may be requested. held is the one that it is to
// replace, if there is one.
func (p *Pace) wait(ctx context.Context, held Grant) error {
	if p == nil {
		return nil
	}
	if held.Token.IsZero() {
		return p.first.wait(ctx, time.Time{})
	}
	return p.replace.wait(ctx, held.Deadline())
}

// lane is a token bucket whose waiters are served by deadline.
type lane struct {
	perSecond, burst float64

	mu      sync.Mutex
	level   float64   // requests that may go now
	at      time.Time // when level was right
	waiting waiters
	armed   bool // serve will be called
}

func newLane(perSecond float64, burst int) *lane {
	return &lane{perSecond: perSecond, burst: float64(burst), level: float64(burst), at: time.Now()}
}

func (l *lane) wait(ctx context.Context, deadline time.Time) error {
	l.mu.Lock()
	l.fillLocked()
	if l.level >= 1 && len(l.waiting) == 0 {
		l.level--
		l.mu.Unlock()
		return nil
	}
	if len(l.waiting) >= maxWaiting && deadline.After(time.Now()) {
		defer l.mu.Unlock()
		return busyError{time.Duration(float64(len(l.waiting)) / l.perSecond * float64(time.Second))}
	}
	w := &waiter{deadline: deadline, turn: make(chan struct{})}
	heap.Push(&l.waiting, w)
	l.armLocked()
	l.mu.Unlock()

	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.index >= 0 {
			heap.Remove(&l.waiting, w.index)
		}
		return fmt.Errorf("waiting for a place in the rate limit of token requests: %w", ctx.Err())
	}
}

func (l *lane) fillLocked() {
	now := time.Now()
	l.level = min(l.burst, l.level+now.Sub(l.at).Seconds()*l.perSecond)
	l.at = now
}

// armLocked has serve called when the next request may go.
func (l *lane) armLocked() {
	if l.armed || len(l.waiting) == 0 {
		return
	}
	l.armed = true
	time.AfterFunc(time.Duration((1-l.level)/l.perSecond*float64(time.Second))+time.Microsecond, l.serve)
}

func (l *lane) serve() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	l.fillLocked()
	for l.level >= 1 && len(l.waiting) > 0 {
		l.level--
		close(heap.Pop(&l.waiting).(*waiter).turn)
	}
	l.armLocked()
}

type waiter struct {
	deadline time.Time
	turn     chan struct{}
	index    int // in the heap; -1 when it has left it
}

// waiters are a heap by deadline.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].deadline.Before(w[j].deadline) }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}
func (w *waiters) Push(x any) {
	x.(*waiter).index = len(*w)
	*w = append(*w, x.(*waiter))
}
func (w *waiters) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	last.index = -1
	return last
}
