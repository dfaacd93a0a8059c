package oauth2source_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/token-projector/token-projector/rotation/rotationtest"
	"github.com/token-projector/token-projector/tokenfile"
	"github.com/token-projector/token-projector/tokenfile/oauth2source"
)

// TestReused: who keeps a token until it expires, as oauth2's own clients do,
// has the file's new one within two minutes.
func TestReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0600); err != nil {
				t.Fatal(err)
			}
		}
		source, err := tokenfile.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		reused := oauth2.ReuseTokenSource(nil, oauth2source.New(source))
		if _, err := reused.Token(); !errors.Is(err, tokenfile.ErrNoToken) {
			t.Errorf("without a file: %v", err)
		}
		time.Sleep(time.Second)
		deadline := time.Now().Add(time.Hour).Truncate(time.Second)
		first := rotationtest.JWT(fmt.Sprintf(`{"exp":%d}`, deadline.Unix()))
		write(first)
		token, err := reused.Token()
		if err != nil || token.AccessToken != first || token.Type() != "Bearer" || !token.Valid() {
			t.Fatalf("the first token is not the file's: %v", err)
		}
		write("opaque")
		time.Sleep(2 * time.Minute)
		if token, err = reused.Token(); err != nil || token.AccessToken != "opaque" {
			t.Errorf("a file that changed was not noticed: %v", err)
		}
		write(first)
		time.Sleep(time.Until(deadline.Add(-30 * time.Second)))
		if token, err = reused.Token(); err != nil || !token.Expiry.Equal(deadline) {
			t.Errorf("a token that ends in 30 s expires at %v: %v", token.Expiry, err)
		}
		time.Sleep(time.Minute)
		if _, err = reused.Token(); !errors.Is(err, tokenfile.ErrExpired) {
			t.Errorf("past the deadline: %v", err)
		}
	})
}
