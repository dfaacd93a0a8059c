package rotation

import (
	"fmt"
	"time"
)

// Bounds on what two clocks may say of the same token.
const (
	// agreement is how far apart a token's age by its file and by its own claims
	// may be without a clock having been set: the answer took its time, and the
	// server's clock is known to about a second.
	agreement = 5 * time.Second
	// futureLeeway is how far in the future a token's time may lie for the API
	// server (pkg/serviceaccount/claims.go, the leeway of its JWT library).
	futureLeeway = time.Minute
)

// Adopt takes over a token that an earlier process left, unless one is held
// already. It returns an error, and takes nothing, if the token is no answer to
// r, has expired or is from the future.
//
// g.Received is the time of the token's file, by the node's clock. Where that
// clock was set since, the token's claims and the API server's clock show it,
// and the greater age counts. The file lies where a workload might have written
// it, so its deadline is never taken to be later than the lifetime that r asks
// for. A token that is overdue is due within the span by which it is late, and
// within a quarter of what is left of its life: after an outage many are.
func (m *Manager) Adopt(r Request, g Grant) error {
	if err := g.Check(r); err != nil {
		return err
	}
	if r.Lifetime > 0 {
		g.Lifetime = min(g.Lifetime, r.Lifetime)
	}
	now := time.Now()
	age, err := m.age(g, now)
	if err != nil {
		return err
	}
	// So that it has the reading of a clock that nobody sets.
	g.Received = now.Add(-age)
	if !g.Valid(now) {
		return fmt.Errorf("the token expired at %s", g.Deadline().Format(time.RFC3339))
	}
	e := m.entry(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.grant.Token.IsZero() {
		e.grant = g
		m.spreadLocked(r, e, now)
		m.learnAccountLocked(r, g.Claims.ServiceAccount.UID)
	}
	return nil
}

// age is how old a token is whose file has the time g.Received.
func (m *Manager) age(g Grant, now time.Time) (time.Duration, error) {
	age := now.Sub(g.Received)
	serverNow, known := m.server()
	if !known || g.Claims.IssuedAt.IsZero() {
		if age < 0 {
			return 0, fmt.Errorf("its file is from the future, %s: the clock was set back, so the token's age is not known",
				g.Received.Format(time.RFC3339))
		}
		return age, nil
	}
	byServer := serverNow.Sub(g.Claims.IssuedAt)
	switch {
	case byServer < -futureLeeway:
		return 0, fmt.Errorf("it is from the future: issued at %s, and for the API server it is %s",
			g.Claims.IssuedAt.Format(time.RFC3339), serverNow.Format(time.RFC3339))
	case (byServer-age).Abs() <= agreement && age >= 0:
		return age, nil
	}
	return max(age, byServer, 0), nil
}

// fromFuture says that the API server, whose clock was set back since, does not
// accept the token yet.
func (m *Manager) fromFuture(g Grant) bool {
	serverNow, known := m.server()
	return known && !g.Claims.IssuedAt.IsZero() && g.Claims.IssuedAt.Sub(serverNow) > futureLeeway
}

// spreadLocked moves the due moment of a token that is overdue but valid.
func (m *Manager) spreadLocked(r Request, e *entry, now time.Time) {
	late, left := now.Sub(m.dueLocked(r, e)), e.grant.Deadline().Sub(now)
	if span := min(late, left/4); span > 0 {
		e.moved = now.Add(time.Duration(hash("overdue", r.Pod.UID, r.Audience) % uint64(span)))
	}
}

// ServerClockChanged says that the API server's clock has become another, as
// seen from here. A token that it now takes for older than it is here is that
// old.
func (m *Manager) ServerClockChanged() {
	now := time.Now()
	m.change(func(r Request, e *entry) {
		if age, err := m.age(e.grant, now); err == nil && age > now.Sub(e.grant.Received) {
			e.grant.Received = now.Add(-age)
			m.spreadLocked(r, e, now)
		}
	})
}

// ClockChanged says that the node's clock was set, or that the machine slept
// for some time. Ages go on as they should: a clock that is set makes no token
// older or younger, and sleep makes all older. What is overdue now is spread
// as by Adopt.
func (m *Manager) ClockChanged(slept time.Duration) {
	now := time.Now()
	m.change(func(r Request, e *entry) {
		// Differences of time.Time go by a clock that nobody sets and that does
		// not count sleep. This keeps its reading, and takes the new wall time.
		e.grant.Received = now.Add(-(now.Sub(e.grant.Received) + slept))
		if !e.moved.IsZero() {
			e.moved = now.Add(e.moved.Sub(now) - slept)
		}
		m.spreadLocked(r, e, now)
	})
}

// change calls f, with the lock, for each token that is held, and has what may
// be due now looked at.
func (m *Manager) change(f func(r Request, e *entry)) {
	m.mu.Lock()
	for r, e := range m.entries {
		if !e.grant.Token.IsZero() {
			f(r, e)
		}
	}
	onDue := m.onDueLocked()
	m.mu.Unlock()
	onDue()
}
