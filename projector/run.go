package projector

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// workers is how many volumes are worked on at once. A pass mostly waits for
// the API server, so there are more than cores; requests are limited elsewhere.
const workers = 32

// Run works until ctx ends and then waits for what is under way; volumes stay
// as they are. Call it once, when the Cluster knows this node's Pods: a volume
// on disk whose Pod it does not know is taken for a leftover, to be removed
// when that is confirmed.
func (p *Projector) Run(ctx context.Context) error {
	leftovers, err := onDisk(p.cfg.Root)
	if err != nil {
		return err
	}
	p.mu.Lock()
	if p.queue != nil {
		p.mu.Unlock()
		return errors.New("Run was called before: make a new Projector")
	}
	p.queue = workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[Key]{
		Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[Key]{Queue: p.order}),
	})
	p.unseen = make(map[Key]bool, len(leftovers))
	for _, key := range leftovers {
		p.entryLocked(key).leftover = true
		p.early[key], p.unseen[key] = true, true
	}
	for key := range p.claims {
		p.unseen[key] = true
	}
	for key := range p.early {
		p.queue.Add(key)
	}
	p.early = nil
	p.mu.Unlock()
	p.seen(Key{}) // there may be none

	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for p.work(ctx) {
			}
		})
	}
	<-ctx.Done()
	p.queue.ShutDown()
	wg.Wait()
	return nil
}

// work takes one key from the queue; it returns false when the queue is shut.
func (p *Projector) work(ctx context.Context) bool {
	key, shut := p.queue.Get()
	if shut {
		return false
	}
	defer p.queue.Done(key)
	if ctx.Err() != nil {
		return false // a queue that is shut still hands out what is in it
	}
	var again time.Time
	err := p.contain(func() (err error) {
		again, err = p.reconcile(ctx, key)
		return err
	})
	if ctx.Err() != nil {
		return true // what failed because of the end is no failure
	}
	p.seen(key)
	p.noteClaim(key, err)
	defer p.cfg.Changed(key)
	if errors.Is(err, errNoVerdict) {
		err = nil
	} else {
		p.note(key, err)
	}
	// Of two waits the queue takes the shorter. What is overdue and failed has
	// only its backoff.
	if err != nil {
		p.queue.AddAfter(key, p.backoff.wait(key, err, p.order.get(key)))
	} else {
		p.backoff.forget(key)
	}
	if wait := time.Until(again); !again.IsZero() && (err == nil || wait > 0) {
		p.queue.AddAfter(key, wait)
	}
	return true
}

// seen takes note of a pass that has ended.
func (p *Projector) seen(key Key) {
	p.mu.Lock()
	delete(p.unseen, key)
	last := p.unseen != nil && len(p.unseen) == 0
	if last {
		p.unseen = nil
	}
	p.mu.Unlock()
	if last {
		p.cfg.Adopted()
	}
}

// contain keeps a panic in the volume whose pass it is: it becomes an error.
func (p *Projector) contain(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			// Not %v: what was panicked with might hold a token.
			err = fmt.Errorf("panic of type %T while working on the volume; please report it", r)
			p.cfg.Logger.Error("panic", "type", fmt.Sprintf("%T", r), "stack", string(debug.Stack()))
		}
	}()
	return f()
}
