package tokenfile

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is a real HTTP server that takes one token, and remembers what it was
// asked.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	seen  []string // "path Authorization body"
	takes string
	to    string // where it redirects what is asked for
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body)))
	switch {
	case s.to != "" && r.URL.Path == "/":
		http.Redirect(w, r, s.to, http.StatusTemporaryRedirect)
	case s.takes != "" && r.Header.Get("Authorization") != "Bearer "+s.takes:
		http.Error(w, "no", http.StatusUnauthorized)
	}
}

func (s *server) saw(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.seen, want) {
		t.Errorf("the server saw %q, want %q", s.seen, want)
	}
}

// sending is a source of a file with a token, and a client that sends it.
func sending(t *testing.T, text string) (path string, client *http.Client) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "token")
	write(t, path, text)
	base := http.DefaultTransport.(*http.Transport).Clone()
	client = &http.Client{Transport: &Transport{Source: open(t, path), Base: base}}
	t.Cleanup(client.CloseIdleConnections)
	return path, client
}

// do makes a request and returns the answer's status.
func do(t *testing.T, client *http.Client, req *http.Request) int {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.Request.Header.Get("Authorization") != "" && req.Header.Get("Authorization") == "" {
		t.Error("the token is in the request that the answer refers to")
	}
	return resp.StatusCode
}

// refused wants a request to fail with an error that shows no token.
func refused(t *testing.T, client *http.Client, req *http.Request, want error) {
	t.Helper()
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, want) || strings.Contains(err.Error(), jwtStart) {
		t.Errorf("error %v, want %v without the token", err, want)
	}
}

func request(t *testing.T, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestTransportSendsToken(t *testing.T) {
	s := newServer(t)
	_, client := sending(t, "one")
	req := request(t, s.URL, strings.NewReader("body"))
	if status := do(t, client, req); status != http.StatusOK {
		t.Error(status)
	}
	if len(req.Header) != 0 {
		t.Errorf("the caller's request was changed: %v", req.Header)
	}
	own := request(t, s.URL, nil)
	own.Header.Set("Authorization", "Basic own")
	do(t, client, own)
	s.saw(t, "/ Bearer one body", "/ Basic own")
}

func TestTransportReadsAgainOn401(t *testing.T) {
	s := newServer(t)
	path, client := sending(t, "one")
	do(t, client, request(t, s.URL, nil))
	s.seen, s.takes = nil, "two"

	// Nothing new: the 401 is the answer.
	if status := do(t, client, request(t, s.URL, nil)); status != http.StatusUnauthorized {
		t.Error(status)
	}
	s.saw(t, "/ Bearer one")

	// A body that can't be had again: so is this, and the next one is right.
	write(t, path, "two")
	s.seen = nil
	if status := do(t, client, request(t, s.URL, io.MultiReader(strings.NewReader("body")))); status != http.StatusUnauthorized {
		t.Error(status)
	}
	if status := do(t, client, request(t, s.URL, nil)); status != http.StatusOK {
		t.Error(status)
	}
	s.saw(t, "/ Bearer one body", "/ Bearer two")

	// A body that can.
	write(t, path, "three")
	s.seen, s.takes = nil, "three"
	if status := do(t, client, request(t, s.URL, bytes.NewReader([]byte("body")))); status != http.StatusOK {
		t.Error(status)
	}
	s.saw(t, "/ Bearer two body", "/ Bearer three body")

	// Only once.
	write(t, path, "four")
	s.seen, s.takes = nil, "five"
	if status := do(t, client, request(t, s.URL, nil)); status != http.StatusUnauthorized {
		t.Error(status)
	}
	s.saw(t, "/ Bearer three", "/ Bearer four")
}

// TestTransportKeepsTokenFromOthers: http.Client follows redirects, and the token
// goes no further than to who was asked for.
func TestTransportKeepsTokenFromOthers(t *testing.T) {
	_, client := sending(t, "one")
	asked, other := newServer(t), newServer(t)

	asked.to = asked.URL + "/same"
	do(t, client, request(t, asked.URL, strings.NewReader("body")))
	asked.saw(t, "/ Bearer one body", "/same Bearer one body")

	asked.seen, asked.to = nil, other.URL+"/elsewhere"
	do(t, client, request(t, asked.URL, nil))
	asked.saw(t, "/ Bearer one")
	other.saw(t, "/elsewhere")

	// And back: what the other one chose to ask for is not what was asked for.
	asked.seen, asked.to = nil, other.URL
	other.seen, other.to = nil, asked.URL+"/chosen"
	do(t, client, request(t, asked.URL, nil))
	other.saw(t, "/")
	asked.saw(t, "/ Bearer one", "/chosen")
}

func TestOrigin(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"https://a/x", "https://A:443/y", true},
		{"http://a", "http://a:80", true},
		{"http://a", "https://a", false},
		{"https://a", "http://a:443", false},
		{"https://a", "https://a:444", false},
		{"https://a", "https://b.a", false},
		{"https://[::1]", "https://[::1]:443", true},
	} {
		a, errA := url.Parse(tt.a)
		b, errB := url.Parse(tt.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if (origin(a) == origin(b)) != tt.same {
			t.Errorf("%s and %s: %s, %s", tt.a, tt.b, origin(a), origin(b))
		}
	}
}

// body remembers that it was closed.
type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error { b.closed = true; return nil }

// TestTransportWithoutToken sends nothing, unless what has expired may be sent.
func TestTransportWithoutToken(t *testing.T) {
	s := newServer(t)
	expired := ending(time.Now().Add(-time.Hour))
	path, client := sending(t, expired)
	b := &body{Reader: strings.NewReader("body")}
	refused(t, client, request(t, s.URL, b), ErrExpired)
	if !b.closed {
		t.Error("the body was not closed, as RoundTrippers must")
	}
	s.saw(t)

	client.Transport.(*Transport).SendExpired = true
	do(t, client, request(t, s.URL, nil))
	s.saw(t, "/ Bearer "+expired)
	write(t, path, "two")
	s.seen, s.takes = nil, "two"
	if status := do(t, client, request(t, s.URL, nil)); status != http.StatusOK {
		t.Error(status)
	}

	none := &http.Client{Transport: &Transport{Source: open(t, path+"-none"), SendExpired: true}}
	refused(t, none, request(t, s.URL, nil), ErrNoToken)
}
