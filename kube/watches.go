package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/token-projector/token-projector/projector"
)

// The waits after a LIST or a WATCH of a single object failed. They begin as
// those of a volume do, for the same reason: a new Pod that the API server's
// caches have not seen yet.
const (
	firstWatchRetry = 2 * time.Millisecond
	lastWatchRetry  = 30 * time.Second
	// relistWait comes after a watch that had begun: many end together when the
	// API server does, and must not come back together.
	relistWait = time.Second
	// watchTime is how long a watch lasts at least, half as much again at most.
	watchTime = 20 * time.Minute
)

// objectName names an object of a namespace.
type objectName struct{ namespace, name string }

// configMaps are the ConfigMaps that volumes use. Each is watched by itself, as
// a node identity may, once for all volumes that use it and for as long as one
// does. A raw watch costs half of what an informer does.
type configMaps struct {
	client *Client
	// changed is told of each volume that uses a ConfigMap which changed.
	changed func(projector.Key)

	mu      sync.Mutex
	watched map[objectName]*watchedConfigMap
	ended   bool // no watch begins any more
	running sync.WaitGroup
}

// errEnded is for a volume that asks while the process ends.
var errEnded = errors.New("the watches have ended")

// end waits for all watches, which end with the context that they run in.
func (m *configMaps) end() {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.running.Wait()
}

// watchedConfigMap is one of them. Its fields are guarded by configMaps.mu, but
// for known.
type watchedConfigMap struct {
	users  map[projector.Key]bool
	stop   context.CancelFunc
	known  chan struct{} // closed after the first answer
	object *corev1.ConfigMap
	err    error // why there is no object
}

// get returns a ConfigMap as it was last seen, for a volume that uses it from
// now on. It waits for the first answer. run is when all watches end.
func (m *configMaps) get(ctx, run context.Context, user projector.Key, name objectName) (*corev1.ConfigMap, error) {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return nil, errEnded
	}
	w, ok := m.watched[name]
	if !ok {
		watching, stop := context.WithCancel(run)
		w = &watchedConfigMap{users: map[projector.Key]bool{}, stop: stop, known: make(chan struct{})}
		m.watched[name] = w
		m.running.Go(func() { m.watch(watching, name, w) })
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
	return w.object, w.err
}

// release ends a volume's use of all ConfigMaps, and the watches that nobody
// needs any more.
func (m *configMaps) release(user projector.Key) {
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

// watch keeps one ConfigMap current until ctx ends: LIST, then WATCH from
// there, and again from the LIST when that ends.
func (m *configMaps) watch(ctx context.Context, name objectName, w *watchedConfigMap) {
	wait := firstWatchRetry
	for ctx.Err() == nil {
		if m.follow(ctx, name, w) {
			wait = relistWait
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-ctx.Done():
		}
		wait = min(2*wait, lastWatchRetry)
	}
}

// follow does one LIST and one WATCH, until that fails or its time is over. It
// says whether the LIST was answered.
func (m *configMaps) follow(ctx context.Context, name objectName, w *watchedConfigMap) (listed bool) {
	options := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name.name).String()}
	listing, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var list corev1.ConfigMapList
	err := m.client.core.Get().Namespace(name.namespace).Resource("configmaps").
		VersionedParams(&options, metav1.ParameterCodec).Do(listing).Into(&list)
	if err != nil {
		if ctx.Err() == nil {
			m.set(w, nil, markCatchingUp(explain(err)))
		}
		return false
	}
	if len(list.Items) == 0 {
		m.set(w, nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name.name))
	} else {
		m.set(w, &list.Items[0], nil)
	}

	lasts := watchTime + rand.N(watchTime/2)
	seconds := int64(lasts / time.Second)
	options.TimeoutSeconds, options.ResourceVersion, options.Watch = &seconds, list.ResourceVersion, true
	ctx, cancelWatch := context.WithTimeout(ctx, lasts+callTimeout) // for a server that does not end it
	defer cancelWatch()
	events, err := m.client.core.Get().Namespace(name.namespace).Resource("configmaps").
		VersionedParams(&options, metav1.ParameterCodec).Watch(ctx)
	if err != nil {
		return true
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		cm, ok := event.Object.(*corev1.ConfigMap)
		switch {
		case !ok: // an error, such as 410 Gone: the next LIST will tell
			return true
		case event.Type == watch.Deleted:
			m.set(w, nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name.name))
		default:
			m.set(w, cm, nil)
		}
	}
	return true
}

// set takes note of what is known of a ConfigMap now, and tells its users if
// that is something new. An object that was seen, or seen to be absent, stays
// so while the API server can't be asked.
func (m *configMaps) set(w *watchedConfigMap, object *corev1.ConfigMap, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := false
	select {
	case <-w.known:
	default:
		first = true
		close(w.known)
	}
	same := object != nil && w.object != nil && object.ResourceVersion == w.object.ResourceVersion ||
		err != nil && w.err != nil && err.Error() == w.err.Error()
	if err != nil && !apierrors.IsNotFound(err) && (w.object != nil || apierrors.IsNotFound(w.err)) {
		return
	}
	if object != nil {
		object.ManagedFields = nil
	}
	w.object, w.err = object, err
	if first || same {
		return // the first answer is waited for
	}
	for user := range w.users {
		m.changed(user)
	}
}
