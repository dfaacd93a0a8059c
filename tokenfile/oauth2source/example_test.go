package oauth2source_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"golang.org/x/oauth2"

	"github.com/token-projector/token-projector/tokenfile"
	"github.com/token-projector/token-projector/tokenfile/oauth2source"
)

// For a library that takes an oauth2.TokenSource, or a client that it makes of one.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "token-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte("one"), 0600); err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("the server got", r.Header.Get("Authorization"))
	}))
	defer server.Close()

	source, err := tokenfile.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := oauth2.NewClient(context.Background(), oauth2source.New(source))
	answer, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = answer.Body.Close()
	fmt.Println(answer.Status)
	// Output:
	// the server got Bearer one
	// 200 OK
}
