package ctl

import (
	"cmp"
	"maps"
	"slices"
	"time"

	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// tracker knows the volumes of a watch, also over a gap in it.
type tracker struct {
	volumes map[string]*tracked
	seen    map[string]bool // those that were sent since the last gap
}

type tracked struct {
	*api.Volume
	rotatedAt time.Time // when the last rotation was noticed
}

func newTracker() *tracker {
	return &tracker{volumes: map[string]*tracked{}, seen: map[string]bool{}}
}

// change is what has happened to a volume.
type change struct {
	verb string
	*api.Volume
}

// apply takes note of an event, and returns what has changed by it.
func (t *tracker) apply(event *api.WatchVolumesResponse, now time.Time) []change {
	v := event.GetVolume()
	key := idText(v.GetId())
	switch event.GetType() {
	case api.EventType_EVENT_TYPE_DELETED:
		delete(t.volumes, key)
		return []change{{"deleted", v}}
	case api.EventType_EVENT_TYPE_INITIAL_SYNC_COMPLETE:
		return t.forget()
	case api.EventType_EVENT_TYPE_ADDED, api.EventType_EVENT_TYPE_MODIFIED:
		t.seen[key] = true
		before, known := t.volumes[key]
		if !known {
			t.volumes[key] = &tracked{Volume: v}
			return []change{{"added", v}}
		}
		verb := difference(before.Volume, v)
		before.Volume = v
		switch verb {
		case "":
			return nil
		case "rotated":
			before.rotatedAt = now
		}
		return []change{{verb, v}}
	}
	return nil // of a projectord that is newer than this program
}

// forget drops what went in a gap.
func (t *tracker) forget() (gone []change) {
	for _, v := range t.sorted() {
		if key := idText(v.GetId()); !t.seen[key] {
			delete(t.volumes, key)
			gone = append(gone, change{"deleted", v.Volume})
		}
	}
	return gone
}

// gap says that events are missing from here on.
func (t *tracker) gap() { t.seen = map[string]bool{} }

// difference says in a word what is new in b; empty if a person would not care.
func difference(a, b *api.Volume) string {
	issued := func(v *api.Volume) map[string]int64 {
		at := map[string]int64{}
		for _, token := range v.GetTokens() {
			at[token.GetPath()] = token.GetIssuedAt().AsTime().UnixNano()
		}
		return at
	}
	before := issued(a)
	for path, at := range issued(b) {
		if then, known := before[path]; known && then != at {
			return "rotated"
		}
	}
	if a.GetPhase() != b.GetPhase() || a.GetGeneration() != b.GetGeneration() || a.GetLastError() != b.GetLastError() ||
		len(before) != len(b.GetTokens()) || a.GetPublished() != b.GetPublished() {
		return "changed"
	}
	return ""
}

// sorted returns the volumes with those first that are not ready, so that a short
// screen shows them, and then by name.
func (t *tracker) sorted() []*tracked {
	return slices.SortedFunc(maps.Values(t.volumes), func(a, b *tracked) int {
		ready := func(v *tracked) int {
			if v.GetPhase() == api.Phase_PHASE_READY {
				return 1
			}
			return 0
		}
		return cmp.Or(ready(a)-ready(b), cmp.Compare(argument(a.Volume), argument(b.Volume)), cmp.Compare(idText(a.GetId()), idText(b.GetId())))
	})
}
