package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/token-projector/token-projector/projector"
)

// The waits after a LIST or a WATCH of an object failed. They begin as those
// of a volume do, for the same reason: a new Pod that the API server's caches
// have not seen yet.
const (
	firstWatchRetry = 2 * time.Millisecond
	lastWatchRetry  = 30 * time.Second
	// relistWait comes after a watch that had begun: many end together when the
	// API server does, and must not come back together.
	relistWait = time.Second
	// healthyWatch is how long a watch lasts that ended for no bad reason.
	healthyWatch = 10 * time.Second
	// unservedWait is how often an API that the server lacks is looked for.
	unservedWait = 10 * time.Minute
	// watchTime is how long a watch lasts at least, half as much again at most.
	watchTime = 20 * time.Minute
)

// objectName names an object of a namespace. Without a name it is all objects
// of a kind.
type objectName struct{ namespace, name string }

// api is how one kind of object is listed and watched.
type api[T metav1.Object] interface {
	// list returns what the options select, and the list's resourceVersion.
	list(ctx context.Context, namespace string, o *metav1.ListOptions) (items []T, resourceVersion string, err error)
	// watch follows it from there.
	watch(ctx context.Context, namespace string, o *metav1.ListOptions) (watch.Interface, error)
}

// errUnserved marks the error of a list whose API the server lacks.
var errUnserved = errors.New("not supported by this API server")

// objects are those of one kind that volumes use. Each is watched by itself, as
// a node identity may, once for all volumes that use it and for as long as one
// does. A raw watch costs half of what an informer does.
type objects[T metav1.Object] struct {
	api api[T]
	// changed is told of each volume that uses an object which changed.
	changed func(projector.Key)

	mu      sync.Mutex
	watched map[objectName]*watched[T]
	ended   bool // no watch begins any more
	running sync.WaitGroup
}

func newObjects[T metav1.Object](a api[T], changed func(projector.Key)) *objects[T] {
	return &objects[T]{api: a, changed: changed, watched: map[objectName]*watched[T]{}}
}

// errEnded is for a volume that asks while the process ends.
var errEnded = errors.New("the watches have ended")

// end waits for all watches, which end with the context that they run in.
func (m *objects[T]) end() {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.running.Wait()
}

// watched is one object, or all of a kind. Its fields are guarded by
// objects.mu, but for known.
type watched[T metav1.Object] struct {
	users map[projector.Key]bool
	stop  context.CancelFunc
	known chan struct{} // closed after the first answer
	// items are what there is, by name, once a list has been answered. The map
	// is replaced and never changed.
	items map[string]T
	err   error // why there are none, or why they don't count any more
	// refused is when the API server began to forbid what it had answered.
	refused time.Time
}

// get returns what there is of a name, for a volume that uses it from now on.
// It waits for the first answer. run is when all watches end.
func (m *objects[T]) get(ctx, run context.Context, user projector.Key, name objectName) (map[string]T, error) {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return nil, errEnded
	}
	w, ok := m.watched[name]
	if !ok {
		watching, stop := context.WithCancel(run)
		w = &watched[T]{users: map[projector.Key]bool{}, stop: stop, known: make(chan struct{})}
		m.watched[name] = w
		m.running.Go(func() { m.keep(watching, name, w) })
	}
	w.users[user] = true
	m.mu.Unlock()

	select {
	case <-w.known:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the first answer: %w", ctx.Err())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return w.items, w.err
}

// getOne is get for a single object; one that does not exist is the API's
// NotFound.
func (m *objects[T]) getOne(ctx, run context.Context, user projector.Key, name objectName, kind schema.GroupResource) (T, error) {
	items, err := m.get(ctx, run, user, name)
	item, ok := items[name.name]
	if err == nil && !ok {
		err = apierrors.NewNotFound(kind, name.name)
	}
	return item, err
}

// release ends a volume's use of all objects, and the watches that nobody needs
// any more.
func (m *objects[T]) release(user projector.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, w := range m.watched {
		delete(w.users, user)
		if len(w.users) == 0 {
			w.stop()
			delete(m.watched, name)
		}
	}
}

// keep keeps what is watched current until ctx ends: LIST, then WATCH from
// there, and again from the LIST when that ends.
func (m *objects[T]) keep(ctx context.Context, name objectName, w *watched[T]) {
	wait := firstWatchRetry
	for ctx.Err() == nil {
		began := time.Now()
		listed, err := m.follow(ctx, name, w)
		switch {
		case errors.Is(err, errUnserved):
			wait = unservedWait
		case listed && time.Since(began) > healthyWatch:
			wait = relistWait
		case listed: // and could not be watched, or not for long
			wait = max(wait, relistWait)
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-ctx.Done():
		}
		wait = min(2*wait, lastWatchRetry)
	}
}

// follow does one LIST and one WATCH, until that fails or its time is over. It
// says whether the LIST was answered, and why not.
func (m *objects[T]) follow(ctx context.Context, name objectName, w *watched[T]) (listed bool, err error) {
	var options metav1.ListOptions
	if name.name != "" {
		options.FieldSelector = fields.OneTermEqualSelector("metadata.name", name.name).String()
	}
	listing, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, resourceVersion, err := m.api.list(listing, name.namespace, &options)
	if err != nil {
		if ctx.Err() == nil {
			m.failed(w, markCatchingUp(explain(err)))
		}
		return false, err
	}
	items := make(map[string]T, len(list))
	for _, item := range list {
		items[item.GetName()] = item
	}
	m.set(w, items)

	lasts := watchTime + rand.N(watchTime/2)
	seconds := int64(lasts / time.Second)
	options.TimeoutSeconds, options.ResourceVersion, options.Watch = &seconds, resourceVersion, true
	ctx, cancelWatch := context.WithTimeout(ctx, lasts+callTimeout) // for a server that does not end it
	defer cancelWatch()
	events, err := m.api.watch(ctx, name.namespace, &options)
	if err != nil {
		return true, nil //nolint:nilerr // the next LIST will tell
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		item, ok := event.Object.(T)
		if !ok { // an error, such as 410 Gone: the next LIST will tell
			return true, nil
		}
		items = maps.Clone(items)
		if event.Type == watch.Deleted {
			delete(items, item.GetName())
		} else {
			items[item.GetName()] = item
		}
		m.set(w, items)
	}
	return true, nil
}

// set takes note of what there is now, and tells its users if that is new.
func (m *objects[T]) set(w *watched[T], items map[string]T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, item := range items {
		item.SetManagedFields(nil)
	}
	same := w.err == nil && maps.EqualFunc(w.items, items, func(a, b T) bool {
		return a.GetUID() == b.GetUID() && a.GetResourceVersion() == b.GetResourceVersion()
	})
	w.items, w.err, w.refused = items, nil, time.Time{}
	m.tellLocked(w, same)
}

// refusalLasts is how long a refusal may be that of a server which has just
// begun and does not know its Pods yet.
const refusalLasts = 30 * time.Second

// failed takes note of a list that failed. What was seen before counts while the
// API server can't be asked, and no longer when it goes on refusing: then the
// permission is gone, which nobody would see otherwise.
func (m *objects[T]) failed(w *watched[T], err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.items != nil {
		if !apierrors.IsForbidden(err) {
			return
		}
		if w.refused.IsZero() {
			w.refused = time.Now()
		}
		if time.Since(w.refused) < refusalLasts {
			return
		}
	}
	same := w.err != nil && w.err.Error() == err.Error()
	w.err = err
	m.tellLocked(w, same)
}

// tellLocked has the users come back, but for the first answer, which is waited
// for, and for one that says nothing new.
func (m *objects[T]) tellLocked(w *watched[T], same bool) {
	select {
	case <-w.known:
	default:
		close(w.known)
		return
	}
	if same {
		return
	}
	for user := range w.users {
		m.changed(user)
	}
}
