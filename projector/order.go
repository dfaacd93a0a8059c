package projector

import (
	"container/heap"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// order hands keys out by urgency: volumes that are to be removed, because that needs
// no API server and somebody waits for it, then those with a token that has expired,
// then those that nothing is published in, then the others by what is left of their
// tokens' lives. It is what the work queue keeps its keys in, and is guarded by
// the queue's lock but for deadlines.
type order struct {
	mu        sync.Mutex
	deadlines map[Key]time.Time
	ending    map[Key]bool

	waiting keyHeap
	pushed  uint64
}

var _ workqueue.Queue[Key] = (*order)(nil)

func newOrder() *order { return &order{deadlines: map[Key]time.Time{}, ending: map[Key]bool{}} }

// set says when the first of a volume's tokens lapses; zero is never.
func (o *order) set(key Key, deadline time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if deadline.IsZero() {
		delete(o.deadlines, key)
		return
	}
	o.deadlines[key] = deadline
}

// end says whether a volume is to be removed.
func (o *order) end(key Key, ending bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ending {
		o.ending[key] = true
	} else {
		delete(o.ending, key)
	}
}

func (o *order) ends(key Key) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending[key]
}

// get is what was set, zero if nothing was.
func (o *order) get(key Key) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.deadlines[key]
}

// Touch implements workqueue.Queue. A key that is added again keeps its place, unless
// it is to be removed by now.
func (o *order) Touch(key Key) {
	if !o.ends(key) {
		return
	}
	for i := range o.waiting {
		if o.waiting[i].key == key {
			o.waiting[i].ending = true
			heap.Fix(&o.waiting, i)
			return
		}
	}
}

// Push implements workqueue.Queue.
func (o *order) Push(key Key) {
	o.pushed++
	heap.Push(&o.waiting, waitingKey{key: key, ending: o.ends(key), deadline: o.get(key), number: o.pushed, at: time.Now()})
}

// Len implements workqueue.Queue.
func (o *order) Len() int { return len(o.waiting) }

// Pop implements workqueue.Queue.
func (o *order) Pop() Key { return heap.Pop(&o.waiting).(waitingKey).key }

type waitingKey struct {
	key      Key
	ending   bool
	deadline time.Time
	number   uint64    // of the push
	at       time.Time // of the push
}

// class is 0 for what is most urgent.
func (w waitingKey) class() int {
	switch {
	case w.ending:
		return 0
	case w.deadline.IsZero():
		return 2
	case w.deadline.Before(w.at):
		return 1
	}
	return 3
}

type keyHeap []waitingKey

func (h keyHeap) Len() int { return len(h) }

func (h keyHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.class() != b.class() {
		return a.class() < b.class()
	}
	if a.class() == 3 && !a.deadline.Equal(b.deadline) {
		return a.deadline.Before(b.deadline)
	}
	return a.number < b.number
}

func (h keyHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *keyHeap) Push(x any) { *h = append(*h, x.(waitingKey)) }

func (h *keyHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
