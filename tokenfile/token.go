package tokenfile

import (
	"errors"
	"time"

	"github.com/token-projector/token-projector/rotation"
)

var (
	// ErrNoToken is that there is no token and never was one. What it comes with
	// says why.
	ErrNoToken = errors.New("no token yet")
	// ErrExpired is that the token is past its deadline and the file has no other.
	ErrExpired = errors.New("token has expired")
)

// Token is what a file held, and until when that counts. It shows nothing of
// itself in logs, in JSON or under any fmt verb; only Reveal gives the text.
//
// The zero value is no token. It is immutable and may be used by many
// goroutines.
type Token struct {
	rotation.Token
	// Deadline is when the token ends by its own claims, on the clock of who
	// issued it. Zero if it doesn't say.
	Deadline time.Time
}

// newToken takes a text that counts.
func newToken(text string) Token {
	t := Token{Token: rotation.NewToken(text)}
	claims, err := rotation.ParseClaims(text)
	if err != nil {
		return t // not one that says when it ends
	}
	t.Deadline = claims.ExpiresAt
	if warn := claims.WarnAfter; !warn.IsZero() && (t.Deadline.IsZero() || warn.Before(t.Deadline)) {
		t.Deadline = warn
	}
	return t
}

// Expired says whether the token is past its deadline at a moment.
func (t Token) Expired(at time.Time) bool {
	return !t.Deadline.IsZero() && !at.Before(t.Deadline)
}
