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
	//
	// serviceAccountUID is that of the ServiceAccount as it was last known, or
	// empty. If another now has its name, the error is
	// ErrServiceAccountReplaced.
	Mint(ctx context.Context, r Request, serviceAccountUID string) (Token, time.Time, error)
}

// ErrServiceAccountReplaced says that the ServiceAccount is another than the
// one that was known: it was deleted and created again.
var ErrServiceAccountReplaced = errors.New("the ServiceAccount was deleted and created again")

// Manager hands out current tokens. A due one is minted once, however many ask
// for it at the same time; while it can't be replaced, the old one is handed
// out for as long as it is valid.
//
// A Manager may be used by many goroutines. It starts none, but for the timers
// of its Pace. The zero value is not usable; see NewManager.
type Manager struct {
	minter  Minter
	policy  Policy
	pace    *Pace
	server  func() (now time.Time, known bool)
	observe func(Rotation)

	mu       sync.Mutex
	entries  map[Request]*entry
	accounts map[account]string // the UID of each as it was last known
	onDue    []*func()          // replaced, and never changed
}

// entry is what is held for one request. Its fields are guarded by Manager.mu,
// but for turn: who holds the one place in turn may mint.
type entry struct {
	turn     chan struct{}
	grant    Grant
	attempts uint64 // mints that ended, well or not
	err      error  // of the last attempt
	// moved is when the grant is due, if that is not as the policy says.
	moved time.Time
	// odd says that the grant was from the future when it came: what is known of
	// the server's time is wrong, or its servers differ.
	odd bool
}

// NewManager returns a manager that mints with minter and replaces tokens by
// policy. It fails if the policy is not valid.
func NewManager(minter Minter, policy Policy, options ...Option) (*Manager, error) {
	if minter == nil {
		return nil, errors.New("rotation manager needs a minter")
	}
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{
		minter: minter, policy: policy, entries: map[Request]*entry{}, accounts: map[account]string{},
		server:  func() (time.Time, bool) { return time.Time{}, false },
		observe: func(Rotation) {},
	}
	for _, o := range options {
		o(m)
	}
	return m, nil
}

// Get returns a current token for r and when it is due.
//
// If the token is due and minting fails, Get returns both the error and the
// token that it holds, as long as that one is valid: serve it and ask again.
// Without a valid one the grant and due are zero. When to ask again after an error is
// the caller's to say, also where due has passed. Get returns early, in the same way,
// when ctx ends.
func (m *Manager) Get(ctx context.Context, r Request) (grant Grant, due time.Time, err error) {
	grant, due, err = m.get(ctx, r)
	if !grant.Valid(time.Now()) {
		if err == nil {
			err = errors.New("the token expired before it could be used")
		}
		return Grant{}, time.Time{}, err
	}
	return grant, due, err
}

// get does the work of Get; its grant may have expired.
func (m *Manager) get(ctx context.Context, r Request) (Grant, time.Time, error) {
	e := m.entry(r)
	before := m.look(r, e)
	if before.current {
		return before.grant, before.due, nil
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return before.grant, before.due, fmt.Errorf("waiting for a token that is being minted: %w", ctx.Err())
	}

	now := m.look(r, e)
	if now.current {
		return now.grant, now.due, nil
	}
	if now.attempts != before.attempts {
		return now.grant, now.due, now.err // who was before us tried for all of us
	}

	fresh, err := m.mint(ctx, r, now.grant)
	if err != nil && ctx.Err() != nil {
		return now.grant, now.due, err // a caller that gave up says nothing about the server
	}
	done := Rotation{Request: r, First: now.grant.Token.IsZero(), Err: err}
	if !done.First {
		done.Late = max(0, time.Since(now.due))
	}
	m.observe(done)
	m.mu.Lock()
	defer m.mu.Unlock()
	e.attempts, e.err = e.attempts+1, err
	if err == nil {
		// If the Pod was forgotten meanwhile, e is no longer in the map, and the
		// answer is gone with it.
		e.grant, e.moved, e.odd = fresh, time.Time{}, m.fromFuture(fresh)
	}
	return e.grant, m.dueLocked(r, e), err
}

// entry finds or makes the entry of r.
func (m *Manager) entry(r Request) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[r]
	if !ok {
		e = &entry{turn: make(chan struct{}, 1)}
		m.entries[r] = e
	}
	return e
}

// view is an entry at one moment.
type view struct {
	grant    Grant
	due      time.Time
	current  bool // it needs no replacement yet
	attempts uint64
	err      error
}

func (m *Manager) look(r Request, e *entry) view {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	v := view{grant: e.grant, due: m.dueLocked(r, e), attempts: e.attempts, err: e.err}
	v.current = e.grant.Valid(now) && now.Before(v.due) && (e.odd || !m.fromFuture(e.grant))
	return v
}

// dueLocked is when the entry's token is due; zero if there is none.
func (m *Manager) dueLocked(r Request, e *entry) time.Time {
	switch {
	case e.grant.Token.IsZero():
		return time.Time{}
	case !e.moved.IsZero():
		return e.moved
	}
	return m.policy.Due(r, e.grant)
}

// mint makes one request and takes only an answer that is one to r.
func (m *Manager) mint(ctx context.Context, r Request, held Grant) (Grant, error) {
	if err := m.pace.wait(ctx, held); err != nil {
		return Grant{}, err
	}
	token, expiration, err := m.minter.Mint(ctx, r, m.accountUID(r))
	if errors.Is(err, ErrServiceAccountReplaced) {
		m.forgetAccount(r)
		token, expiration, err = m.minter.Mint(ctx, r, "")
	}
	if err != nil {
		return Grant{}, err
	}
	grant, err := NewGrant(token, expiration, time.Now())
	if err == nil {
		err = grant.Check(r)
	}
	if err != nil {
		return Grant{}, fmt.Errorf("reading the API server's answer: %w", err)
	}
	m.learnAccount(r, grant.Claims.ServiceAccount.UID)
	return grant, nil
}

// ForgetPod drops every token that is bound to the Pod with this UID. A mint
// that is under way for it is not stored. Call it when nobody calls Get for the Pod any
// more: a Manager holds a token until then, and looks after its ServiceAccount.
func (m *Manager) ForgetPod(uid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := range m.entries {
		if r.Pod.UID == uid {
			delete(m.entries, r)
		}
	}
	m.dropAccountsLocked()
}

// Held says how many tokens there are, how many of them have expired, and the
// smallest deadline, which is zero without tokens.
func (m *Manager) Held() (tokens, expired int, earliest time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, e := range m.entries {
		if e.grant.Token.IsZero() {
			continue
		}
		tokens++
		deadline := e.grant.Deadline()
		if !deadline.After(now) {
			expired++
		}
		if earliest.IsZero() || deadline.Before(earliest) {
			earliest = deadline
		}
	}
	return tokens, expired, earliest
}

// Demand is how many rotations a second the tokens that are held need on
// average.
func (m *Manager) Demand() (perSecond float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if period := m.policy.Period(e.grant.Lifetime); period > 0 {
			perSecond += 1 / period.Seconds()
		}
	}
	return perSecond
}
