package runtimeapi

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/token-projector/token-projector/projector"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// maxBacklog is how many events wait for a watcher, until it is cut off.
const maxBacklog = 1000

// hub turns the projector's hints that a volume may have changed into events, once
// for all watchers.
type hub struct {
	hints chan struct{} // one, that there are dirty keys
	ready chan struct{} // closed when all volumes that there are have been told

	mu       sync.Mutex
	dirty    map[projector.Key]bool
	known    map[projector.Key]*api.Volume // as watchers were told last
	watchers map[*watcher]bool
	closed   bool
}

// watcher is one stream. Its fields are guarded by hub.mu.
type watcher struct {
	wanted  func(projector.Key) bool
	backlog []*api.WatchVolumesResponse
	more    chan struct{} // one, that there is a backlog, or an end
	slow    bool          // it was cut off
}

func newHub() *hub {
	return &hub{
		hints: make(chan struct{}, 1), ready: make(chan struct{}), dirty: map[projector.Key]bool{}, known: map[projector.Key]*api.Volume{}, watchers: map[*watcher]bool{},
	}
}

// signal leaves one value in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (h *hub) isReady() bool {
	select {
	case <-h.ready:
		return true
	default:
		return false
	}
}

// changed takes a hint. It does not block.
func (h *hub) changed(key projector.Key) {
	h.mu.Lock()
	h.dirty[key] = true
	h.mu.Unlock()
	signal(h.hints)
}

// run tells watchers what has changed, until ctx ends.
func (h *hub) run(ctx context.Context, describe func(projector.Key) *api.Volume) {
	select {
	case <-h.ready:
	case <-ctx.Done():
		return
	}
	for {
		select {
		case <-h.hints:
		case <-ctx.Done():
			return
		}
		h.mu.Lock()
		dirty := h.dirty
		h.dirty = map[projector.Key]bool{}
		h.mu.Unlock()
		for key := range dirty {
			h.tell(key, describe(key))
		}
	}
}

// tell makes an event of a volume as it is now, nil if it is gone.
func (h *hub) tell(key projector.Key, now *api.Volume) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.known[key]
	event := &api.WatchVolumesResponse{Type: api.EventType_EVENT_TYPE_MODIFIED, Volume: now}
	switch {
	case before == nil && now == nil, proto.Equal(before, now):
		return
	case before == nil:
		event.Type = api.EventType_EVENT_TYPE_ADDED
	case now == nil:
		event.Type, event.Volume = api.EventType_EVENT_TYPE_DELETED, before
	}
	if now == nil {
		delete(h.known, key)
	} else {
		h.known[key] = now
	}
	for w := range h.watchers {
		if w.wanted(key) {
			h.addLocked(w, event)
		}
	}
}

func (h *hub) addLocked(w *watcher, event *api.WatchVolumesResponse) {
	if len(w.backlog) >= maxBacklog {
		w.slow, w.backlog = true, nil
		delete(h.watchers, w)
	} else {
		w.backlog = append(w.backlog, event)
	}
	signal(w.more)
}

// watch begins to tell a watcher, first of what there is. end ends that.
func (h *hub) watch(wanted func(projector.Key) bool) (w *watcher, first []*api.WatchVolumesResponse, end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w = &watcher{wanted: wanted, more: make(chan struct{}, 1)}
	for key, v := range h.known {
		if wanted(key) {
			first = append(first, &api.WatchVolumesResponse{Type: api.EventType_EVENT_TYPE_ADDED, Volume: v})
		}
	}
	if h.closed {
		signal(w.more)
	} else {
		h.watchers[w] = true
	}
	return w, first, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
	}
}

// take returns what waits for a watcher.
func (h *hub) take(w *watcher) []*api.WatchVolumesResponse {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := w.backlog
	w.backlog = nil
	return events
}

// endOf is why a watcher is told nothing more; nil while it is.
func (h *hub) endOf(w *watcher) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case w.slow:
		return errSlow
	case h.closed:
		return errEnding
	}
	return nil
}

// close ends all watches: the process ends.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		signal(w.more)
	}
}
