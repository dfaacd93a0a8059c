package tokenfile_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/token-projector/token-projector/tokenfile"
)

// A client goes on when its token is replaced, and the old one refused, between
// two requests.
func ExampleTransport() {
	dir, err := os.MkdirTemp("", "token-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "token")

	// It takes no token but the one that is in the file.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		fmt.Println("the server got", got)
		if token, err := os.ReadFile(path); err != nil || got != "Bearer "+string(token) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()

	source, err := tokenfile.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: &tokenfile.Transport{Source: source}, Timeout: 10 * time.Second}
	for _, token := range []string{"one", "two"} {
		if err := replace(path, token); err != nil {
			fmt.Println(err)
			return
		}
		answer, err := client.Get(server.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = answer.Body.Close()
		fmt.Println(answer.Status)
	}
	// Output:
	// the server got Bearer one
	// 200 OK
	// the server got Bearer one
	// the server got Bearer two
	// 200 OK
}

// replace does what who mints tokens should: nobody sees a file that is half
// written.
func replace(path, token string) error {
	if err := os.WriteFile(path+".new", []byte(token), 0600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
