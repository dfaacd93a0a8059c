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
	dir, err := os.MkdirTemp("", "token-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "token")
	source, err := tokenfile.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- source.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			fmt.Println(err)
		}
	}()

	for range 2 {
		changed := source.Changed() // before Token, so that nothing is missed
		switch token, err := source.Token(ctx); {
		case errors.Is(err, tokenfile.ErrNoToken):
			fmt.Println("none yet")
			if err := replace(path, "opaque"); err != nil { // who mints them
				fmt.Println(err)
				return
			}
		case errors.Is(err, tokenfile.ErrExpired):
			fmt.Println("the last one ended at", token.Deadline)
		case err != nil:
			fmt.Println(err)
			return
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
