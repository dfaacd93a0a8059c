package rotation

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// OnDue has f called, until stop is, when tokens have become due in another way than
// by the passing of time: who waits for the moment that Get told asks again. f must
// not block. A call that is under way may end after stop.
func (m *Manager) OnDue(f func()) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onDue = append(slices.Clone(m.onDue), &f)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.onDue = slices.DeleteFunc(slices.Clone(m.onDue), func(other *func()) bool { return other == &f })
	}
}

// onDueLocked is what to call when the lock is given back.
func (m *Manager) onDueLocked() func() {
	all := m.onDue
	return func() {
		for _, f := range all {
			(*f)()
		}
	}
}

// ForcedPace is how far apart forced rotations of one node are by default.
const ForcedPace = 100 * time.Millisecond

// RotateAll makes all tokens due that are held now, one after another with pace
// between them: for a change of the key that the API server signs with. It says
// how many there are and within which time they are due.
func (m *Manager) RotateAll(pace time.Duration) (tokens int, within time.Duration) {
	return m.Rotate(pace, func(Request) bool { return true })
}

// Rotate is RotateAll for the tokens that wanted says yes to. wanted must not call
// the Manager.
func (m *Manager) Rotate(pace time.Duration, wanted func(Request) bool) (tokens int, within time.Duration) {
	now := time.Now()
	m.mu.Lock()
	// In the order of their phases, which is the same for no two nodes.
	order := slices.SortedFunc(maps.Keys(m.entries), func(a, b Request) int {
		return cmp.Compare(hash(a.Pod.UID, a.Audience), hash(b.Pod.UID, b.Audience))
	})
	for _, r := range order {
		e := m.entries[r]
		if e.grant.Token.IsZero() || !wanted(r) {
			continue
		}
		at := now.Add(within)
		if at.Before(m.dueLocked(r, e)) {
			e.moved = at
		}
		tokens++
		within += pace
	}
	onDue := m.onDueLocked()
	m.mu.Unlock()
	onDue()
	return tokens, within
}
