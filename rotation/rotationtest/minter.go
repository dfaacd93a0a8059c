// Package rotationtest has a Minter for tests of what is built on package
// rotation. It makes no request to anything.
package rotationtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/token-projector/token-projector/rotation"
)

// JWT returns an unsigned token with these claims.
func JWT(claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"none"}`)) + "." + enc([]byte(claims)) + "." + enc([]byte("signature"))
}

// Minter answers as the API server would. The zero value grants what is asked
// for, at once. Its methods may be called concurrently; under testing/synctest
// it lives on the bubble's clock.
type Minter struct {
	mu    sync.Mutex
	calls int
	b     Behaviour
}

// Behaviour says how a Minter answers.
type Behaviour struct {
	Err   error         // answer with an error
	Delay time.Duration // before each answer
	// Lifetime is what is granted, instead of what is asked for.
	Lifetime time.Duration
	// PodUID is the Pod that the token is bound to, instead of the right one.
	PodUID string
	// AccountUID is that of all ServiceAccounts; another that is asked for is
	// refused with rotation.ErrServiceAccountReplaced.
	AccountUID string
	// Skew is how far the server's clock is ahead of this one.
	Skew time.Duration
}

// Behave changes how calls from now on are answered.
func (m *Minter) Behave(b Behaviour) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = b
}

// Calls is how often Mint was called.
func (m *Minter) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// Mint implements rotation.Minter. The id of the n-th token is "n".
func (m *Minter) Mint(ctx context.Context, r rotation.Request, accountUID string) (rotation.Token, time.Time, error) {
	m.mu.Lock()
	m.calls++
	n, b := m.calls, m.b
	m.mu.Unlock()
	if b.Delay > 0 {
		select {
		case <-time.After(b.Delay):
		case <-ctx.Done():
			return rotation.Token{}, time.Time{}, ctx.Err()
		}
	}
	if b.Err != nil {
		return rotation.Token{}, time.Time{}, b.Err
	}
	if accountUID != "" && accountUID != b.AccountUID {
		return rotation.Token{}, time.Time{}, rotation.ErrServiceAccountReplaced
	}
	lifetime, pod := r.Lifetime, r.Pod
	if b.Lifetime != 0 {
		lifetime = b.Lifetime
	}
	if b.PodUID != "" {
		pod.UID = b.PodUID
	}
	now := time.Now().Add(b.Skew)
	claims, err := json.Marshal(map[string]any{
		"jti": fmt.Sprint(n), "aud": []string{r.Audience}, "iat": now.Unix(), "exp": now.Add(lifetime).Unix(),
		"kubernetes.io": map[string]any{
			"namespace": r.Namespace, "pod": pod,
			"serviceaccount": rotation.ObjectRef{Name: r.ServiceAccount, UID: b.AccountUID},
		},
	})
	if err != nil {
		return rotation.Token{}, time.Time{}, err
	}
	return rotation.NewToken(JWT(string(claims))), now.Add(lifetime), nil
}
