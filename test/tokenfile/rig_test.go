// Package tokenfile_test has package tokenfile follow real files, replaced in
// every way that we know of, at a speed that nobody needs. The limits of the
// kernel and mounts are those of namespaces of the test's own.
package tokenfile_test

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/token-projector/token-projector/rotation"
	"github.com/token-projector/token-projector/test/isolate"
	"github.com/token-projector/token-projector/tokenfile"
)

var swaps = flag.Int("swaps", 1000, "how often each file is replaced that is replaced at full speed")

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path))
	}
	flag.Parse()
	os.Exit(isolate.Run(m.Run))
}

const (
	// never is a poll that doesn't come during a test: events must do.
	never = time.Hour
	// prompt is how soon the last content must be known where events work.
	prompt = time.Second
	// patience is how long anything may take that is not measured.
	patience = 30 * time.Second
)

// token is the n-th one. All its parts are of n, so that one that is made of two
// shows. Every other one is as long as the one before.
func token(n int) string {
	encode := base64.RawURLEncoding.EncodeToString
	mark := strings.Repeat(string(rune('a'+n%26)), 600+n/2%150)
	signature := strings.Repeat(string(rune('A'+n%26)), 256)
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode([]byte(fmt.Sprintf(`{"jti":"%d","sub":"%s"}`, n, mark))) + "." + encode([]byte(signature))
}

// number is which one a token is: 0 for none, and -1 for one that nobody wrote.
func number(text string) (n int) {
	if text == "" {
		return 0
	}
	claims, err := rotation.ParseClaims(text)
	if err != nil {
		return -1
	}
	if _, err := fmt.Sscan(claims.ID, &n); err != nil || text != token(n) {
		return -1
	}
	return n
}

// follower is a source that runs, with some readers that look for torn tokens.
type follower struct {
	*testing.T
	*tokenfile.Source
	torn atomic.Int64
}

func follow(t *testing.T, path string, poll time.Duration, readers int) *follower {
	t.Helper()
	s, err := tokenfile.Open(path, tokenfile.WithPoll(poll))
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{T: t, Source: s}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for range readers {
		all.Go(func() {
			for ctx.Err() == nil {
				token, err := s.Token(ctx)
				if number(token.Reveal()) < 0 || err == nil && token.IsZero() {
					f.torn.Add(1)
				}
				time.Sleep(time.Millisecond) // or they keep the processors from everybody
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	return f
}

// sees waits until the n-th token is the current one, and says how long that
// took and whether it came within a time.
func (f *follower) sees(n int, within time.Duration) (lag time.Duration, ok bool) {
	began := time.Now()
	limit := time.After(within)
	for {
		changed := f.Changed()
		token, err := f.Token(f.Context())
		if err == nil && number(token.Reveal()) == n {
			return time.Since(began), true
		}
		if err != nil && !errors.Is(err, tokenfile.ErrNoToken) {
			f.Fatal(err)
		}
		select {
		case <-changed:
		case <-limit:
			return within, false
		}
	}
}
