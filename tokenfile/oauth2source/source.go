// Package oauth2source makes a tokenfile.Source a token source of
// golang.org/x/oauth2. It makes no request and exchanges nothing.
package oauth2source

import (
	"context"
	"time"

	"golang.org/x/oauth2"

	"github.com/token-projector/token-projector/tokenfile"
)

// keep is how long a token may be kept by who asks for one. oauth2.NewClient and
// oauth2.ReuseTokenSource keep it until it expires, and 10 seconds less.
const keep = time.Minute

// New returns a token source that many goroutines may use. The expiry of its
// tokens is a minute from now, or the token's deadline if that comes first: so
// clients that keep a token still notice that the file has another. Its errors
// are those of Source.Token; an expired token is an error.
func New(s *tokenfile.Source) oauth2.TokenSource { return source{s} }

type source struct{ *tokenfile.Source }

func (s source) Token() (*oauth2.Token, error) {
	token, err := s.Source.Token(context.Background())
	if err != nil {
		return nil, err
	}
	expiry := time.Now().Add(keep)
	if d := token.Deadline; !d.IsZero() && d.Before(expiry) {
		expiry = d
	}
	return &oauth2.Token{AccessToken: token.Reveal(), TokenType: "Bearer", Expiry: expiry}, nil
}
