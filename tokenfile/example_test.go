package tokenfile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/token-projector/token-projector/tokenfile"
)

// A service that sends its Pod's token with each request.
func Example() {
	source, err := tokenfile.Open(tokenfile.InCluster)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- source.Run(ctx) }()

	client := &http.Client{Transport: &tokenfile.Transport{Source: source}, Timeout: 10 * time.Second}
	_ = client // ... until the service ends:

	cancel()
	fmt.Println(<-ended)
	// Output: <nil>
}

// Somebody who hands the token to something else, each time that there is another.
func ExampleSource_Changed() {
	path := filepath.Join(os.TempDir(), fmt.Sprint("token-", os.Getpid()))
	source, err := tokenfile.Open(path, tokenfile.WithPoll(100*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.Remove(path) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = source.Run(ctx) }()

	for range 2 {
		changed := source.Changed()
		switch token, err := source.Token(ctx); {
		case errors.Is(err, tokenfile.ErrNoToken):
			fmt.Println("none yet")
			_ = os.WriteFile(path, []byte("opaque"), 0600) // who mints them
		case errors.Is(err, tokenfile.ErrExpired):
			fmt.Println("the last one ended at", token.Deadline)
		default:
			fmt.Println("of", len(token.Reveal()), "bytes; in a log:", token)
			return
		}
		<-changed
	}
	// Output:
	// none yet
	// of 6 bytes; in a log: [redacted token]
}
