package rotation

import (
	"errors"
	"fmt"
	"time"
)

// Request names one token: what is asked for and the Pod that it is bound to.
// It is comparable, and equal requests share one token.
type Request struct {
	Namespace      string
	ServiceAccount string
	Pod            ObjectRef
	// Audience is what the token is for; empty means the API server's own.
	Audience string
	// Lifetime is the lifetime to ask for, in whole seconds. The API server
	// grants at least 600 s and may grant less than was asked for.
	Lifetime time.Duration
}

// Grant is one token and what is known of its time. It is a value; the zero
// Grant holds no token.
type Grant struct {
	Token  Token
	Claims Claims
	// Received is when this machine got the token, on this machine's clock.
	Received time.Time
	// Lifetime is what the API server granted, the difference of two moments
	// on its clock.
	Lifetime time.Duration
}

// Deadline is the moment from which the token must no longer be relied upon,
// on this machine's clock.
func (g Grant) Deadline() time.Time { return g.Received.Add(g.Lifetime) }

// Valid says whether there is a token whose deadline has not come.
func (g Grant) Valid(now time.Time) bool { return !g.Token.IsZero() && now.Before(g.Deadline()) }

// statusSlack is how much earlier than the claims' deadline
// status.expirationTimestamp may be without saying anything of its own: the
// server takes the two times one after the other and cuts both to seconds
// (pkg/registry/core/serviceaccount/storage/token.go). Within it the claims
// count, because after a restart they are all there is, and the due time must
// come out the same.
const statusSlack = 2 * time.Second

// NewGrant makes the grant of a token that was just minted and received at a
// given moment. expiration is the response's status.expirationTimestamp.
//
// It fails if the token's claims can't be read or leave no lifetime.
func NewGrant(token Token, expiration, received time.Time) (Grant, error) {
	claims, err := ParseClaims(token.Reveal())
	if err != nil {
		return Grant{}, err
	}
	lifetime := claims.Lifetime()
	if !expiration.IsZero() && !claims.IssuedAt.IsZero() {
		granted := expiration.Sub(claims.IssuedAt)
		if lifetime == 0 || granted < lifetime-statusSlack {
			lifetime = granted
		}
	}
	if lifetime < time.Second {
		return Grant{}, errors.New("the token has no lifetime: it expires when or before it was issued, or does not say when")
	}
	return Grant{Token: token, Claims: claims, Received: received, Lifetime: lifetime}, nil
}

// ReadGrant makes the grant of a token that was read back from a file, where
// its claims are all there is. It fails as NewGrant does.
func ReadGrant(token Token, received time.Time) (Grant, error) {
	return NewGrant(token, time.Time{}, received)
}

// Check says why g is not an answer to r: a token of another ServiceAccount,
// of another Pod or for another audience. A claim that the token does not
// carry is not held against it, except the bound Pod.
func (g Grant) Check(r Request) error {
	c := g.Claims
	switch {
	case c.Namespace != "" && c.Namespace != r.Namespace:
		return fmt.Errorf("the token is of namespace %q, not %q", c.Namespace, r.Namespace)
	case c.ServiceAccount.Name != "" && c.ServiceAccount.Name != r.ServiceAccount:
		return fmt.Errorf("the token is of ServiceAccount %q, not %q", c.ServiceAccount.Name, r.ServiceAccount)
	case c.Pod.UID != r.Pod.UID:
		return fmt.Errorf("the token is bound to Pod UID %q, not %q", c.Pod.UID, r.Pod.UID)
	case r.Audience != "" && !c.HasAudience(r.Audience):
		return fmt.Errorf("the token is for audiences %q, not %q", c.Audiences, r.Audience)
	}
	return nil
}
