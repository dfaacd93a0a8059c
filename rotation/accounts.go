package rotation

import (
	"context"
	"slices"
	"strings"
	"time"
)

// account names a ServiceAccount.
type account struct{ namespace, name string }

func accountOf(r Request) account { return account{r.Namespace, r.ServiceAccount} }

func (m *Manager) accountUID(r Request) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accounts[accountOf(r)]
}

func (m *Manager) forgetAccount(r Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.accounts, accountOf(r))
}

// learnAccount takes note of a ServiceAccount's UID from a token that it was
// just given. If that is a new one, all tokens of the old one are due: the API
// server refuses them.
func (m *Manager) learnAccount(r Request, uid string) {
	m.mu.Lock()
	m.learnAccountLocked(r, uid)
	replaced := uid != "" && m.replacedLocked(accountOf(r), uid)
	onDue := m.onDueLocked()
	m.mu.Unlock()
	if replaced {
		onDue()
	}
}

func (m *Manager) learnAccountLocked(r Request, uid string) {
	if uid != "" {
		m.accounts[accountOf(r)] = uid
	}
}

// replacedLocked makes each token due that is not of the ServiceAccount with
// this UID, and says whether there was one.
func (m *Manager) replacedLocked(a account, uid string) (found bool) {
	for r, e := range m.entries {
		of := e.grant.Claims.ServiceAccount.UID
		if accountOf(r) != a || e.grant.Token.IsZero() || of == "" || of == uid {
			continue
		}
		if now := time.Now(); now.Before(m.dueLocked(r, e)) {
			e.moved = now
			found = true
		}
	}
	return found
}

// dropAccountsLocked forgets those that no token is of.
func (m *Manager) dropAccountsLocked() {
	used := make(map[account]bool, len(m.accounts))
	for r := range m.entries {
		used[accountOf(r)] = true
	}
	for a := range m.accounts {
		if !used[a] {
			delete(m.accounts, a)
		}
	}
}

// CheckAccounts asks for the UID of each ServiceAccount that tokens are held of
// once in every, evenly spread, until ctx ends, and has the tokens of one that
// was deleted and created again replaced: their holders are refused, and would
// be until the next rotation. lookup's errors prove nothing and are left alone. It
// returns at once if every is not more than 0.
func (m *Manager) CheckAccounts(ctx context.Context, every time.Duration, lookup func(ctx context.Context, namespace, name string) (uid string, err error)) {
	for every > 0 && ctx.Err() == nil {
		round := m.knownAccounts()
		if len(round) == 0 { // as at the start
			sleep(ctx, min(every, time.Minute))
		}
		for _, a := range round {
			sleep(ctx, every/time.Duration(len(round)))
			if ctx.Err() != nil {
				return
			}
			if uid, err := lookup(ctx, a.namespace, a.name); err == nil {
				m.learnAccount(Request{Namespace: a.namespace, ServiceAccount: a.name}, uid)
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// knownAccounts are in a fixed order.
func (m *Manager) knownAccounts() []account {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []account
	for r, e := range m.entries {
		if a := accountOf(r); !e.grant.Token.IsZero() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b account) int {
		return strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name)
	})
	return out
}
