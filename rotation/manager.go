package rotation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Minter makes one TokenRequest. It bounds the call's time by itself, and may
// be called by many goroutines.
type Minter interface {
	// Mint returns the token and the response's status.expirationTimestamp.
	Mint(ctx context.Context, r Request) (Token, time.Time, error)
}

// Manager hands out current tokens. A due one is minted once, however many ask
// for it at the same time; while it can't be replaced, the old one is handed
// out for as long as it is valid.
//
// A Manager starts no goroutine and may be used by many. The zero value is not
// usable; see NewManager.
type Manager struct {
	minter Minter
	policy Policy

	mu      sync.Mutex
	entries map[Request]*entry
}

// entry is what is held for one request. Its fields are guarded by Manager.mu,
// but for turn: who holds the one place in turn may mint.
type entry struct {
	turn     chan struct{}
	grant    Grant
	attempts uint64 // mints that ended, well or not
	err      error  // of the last attempt
}

// NewManager returns a manager that mints with minter and replaces tokens by
// policy. It fails if the policy is not valid.
func NewManager(minter Minter, policy Policy) (*Manager, error) {
	if minter == nil {
		return nil, errors.New("rotation manager needs a minter")
	}
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	return &Manager{minter: minter, policy: policy, entries: map[Request]*entry{}}, nil
}

// Get returns a current token for r and when it is due.
//
// If the token is due and minting fails, Get returns both the error and the
// token that it holds, as long as that one is valid: serve it and ask again.
// Without a valid one the grant is zero. Get returns early, in the same way,
// when ctx ends.
func (m *Manager) Get(ctx context.Context, r Request) (grant Grant, due time.Time, err error) {
	grant, err = m.get(ctx, r)
	if !grant.Valid(time.Now()) {
		return Grant{}, time.Time{}, err
	}
	return grant, m.policy.Due(r, grant), err
}

// get does the work of Get; its grant may have expired.
func (m *Manager) get(ctx context.Context, r Request) (Grant, error) {
	e, grant, seen := m.look(r)
	if m.current(r, grant) {
		return grant, nil
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return grant, fmt.Errorf("waiting for a token that is being minted: %w", ctx.Err())
	}

	m.mu.Lock()
	grant, attempts, err := e.grant, e.attempts, e.err
	m.mu.Unlock()
	if m.current(r, grant) {
		return grant, nil
	}
	if attempts != seen {
		return grant, err // who was before us tried for all of us
	}

	fresh, err := m.mint(ctx, r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil { // a caller that gave up says nothing about the server
			e.attempts, e.err = e.attempts+1, err
		}
		return e.grant, err
	}
	// If the Pod was forgotten meanwhile, e is no longer in the map, and the
	// answer is gone with it.
	e.grant, e.attempts, e.err = fresh, e.attempts+1, nil
	return fresh, nil
}

// look finds or makes the entry of r.
func (m *Manager) look(r Request) (e *entry, held Grant, attempts uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[r]
	if !ok {
		e = &entry{turn: make(chan struct{}, 1)}
		m.entries[r] = e
	}
	return e, e.grant, e.attempts
}

// current says whether g needs no replacement yet.
func (m *Manager) current(r Request, g Grant) bool {
	now := time.Now()
	return g.Valid(now) && now.Before(m.policy.Due(r, g))
}

// mint makes one request and takes only an answer that is one to r.
func (m *Manager) mint(ctx context.Context, r Request) (Grant, error) {
	token, expiration, err := m.minter.Mint(ctx, r)
	if err != nil {
		return Grant{}, err
	}
	grant, err := NewGrant(token, expiration, time.Now())
	if err != nil {
		return Grant{}, fmt.Errorf("reading the API server's answer: %w", err)
	}
	if err := grant.Check(r); err != nil {
		return Grant{}, fmt.Errorf("reading the API server's answer: %w", err)
	}
	return grant, nil
}

// Adopt takes over a token that an earlier process left, unless one is held
// already. It returns an error, and takes nothing, if the token is no answer to
// r, has expired or is from the future.
//
// The file lies where a workload might have written it, so its deadline is
// never taken to be later than the lifetime that r asks for.
func (m *Manager) Adopt(r Request, g Grant) error {
	if err := g.Check(r); err != nil {
		return err
	}
	now := time.Now()
	if g.Received.After(now) {
		return fmt.Errorf("its file is from the future, %s: the clock was set back, so the token's age is not known",
			g.Received.Format(time.RFC3339))
	}
	if r.Lifetime > 0 {
		g.Lifetime = min(g.Lifetime, r.Lifetime)
	}
	if !g.Valid(now) {
		return fmt.Errorf("the token expired at %s", g.Deadline().Format(time.RFC3339))
	}
	e, _, _ := m.look(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.grant.Token.IsZero() {
		e.grant = g
	}
	return nil
}

// ForgetPod drops every token that is bound to the Pod with this UID. A mint
// that is under way for it is not stored.
func (m *Manager) ForgetPod(uid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := range m.entries {
		if r.Pod.UID == uid {
			delete(m.entries, r)
		}
	}
}

// EarliestDeadline is the smallest deadline of all tokens held; ok is false if
// none is.
func (m *Manager) EarliestDeadline() (deadline time.Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if e.grant.Token.IsZero() {
			continue
		}
		if d := e.grant.Deadline(); !ok || d.Before(deadline) {
			deadline, ok = d, true
		}
	}
	return deadline, ok
}
