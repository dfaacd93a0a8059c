package kube

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// testServer answers with the credential that it was asked with.
func testServer(t *testing.T) *httptest.Server {
	t.Helper()
	ended := make(chan struct{})
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			// Not until the request ends: the answer to that could come first.
			<-ended
			return
		}
		_, _ = fmt.Fprint(w, r.Header.Get("Authorization"))
	}))
	t.Cleanup(func() {
		close(ended)
		s.Close()
	})
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func writeKubeconfig(t *testing.T, dir, server string) string {
	t.Helper()
	path := filepath.Join(dir, "kubeconfig")
	write(t, path, fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c,
clusters: [{name: c, cluster: {server: %q, certificate-authority: ca.crt}}],
users: [{name: u, user: {tokenFile: %s/token}}], contexts: [{name: c, context: {cluster: c, user: u}}]}`, server, dir))
	return path
}

func writeCA(t *testing.T, dir string, s *httptest.Server) {
	t.Helper()
	write(t, filepath.Join(dir, "ca.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

// newConnection is one to a server, with its files in a directory.
func newConnection(t *testing.T) (c *connection, dir string, server *httptest.Server) {
	t.Helper()
	dir, server = t.TempDir(), testServer(t)
	writeCA(t, dir, server)
	write(t, filepath.Join(dir, "token"), "one")
	c = &connection{kubeconfig: writeKubeconfig(t, dir, server.URL)}
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	return c, dir, server
}

// TestConnectionFollowsItsFiles: the token, the CA and the server's address may
// each become another.
func TestConnectionFollowsItsFiles(t *testing.T) {
	c, dir, server := newConnection(t)
	base := c.current.Load().base
	client := &http.Client{Transport: c}
	ask := func() string {
		t.Helper()
		response, err := client.Get(base.String())
		if err != nil {
			return err.Error()
		}
		defer func() { _ = response.Body.Close() }()
		text := make([]byte, 100)
		n, _ := response.Body.Read(text)
		return string(text[:n])
	}
	if got := ask(); got != "Bearer one" {
		t.Fatalf("asked with %q", got)
	}
	reports := make(chan error, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { c.follow(ctx, func(err error) { reports <- err }); return nil })
	defer func() { cancel(); _ = group.Wait() }()
	eventually := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(9 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) { // before the poll: the watch must notice
				t.Fatalf("waited too long for %s", what)
			}
		}
	}
	write(t, filepath.Join(dir, "token"), "two")
	eventually("the new token", func() bool { return ask() == "Bearer two" })

	other := testServer(t) // with the same certificate, which httptest has one of
	writeKubeconfig(t, dir, other.URL)
	server.Close()
	eventually("the new address", func() bool { return ask() == "Bearer two" })

	write(t, filepath.Join(dir, "ca.crt"), "no CA")
	eventually("the report", func() bool {
		select {
		case err := <-reports:
			return err != nil
		default:
			return false
		}
	})
	if got := ask(); got != "Bearer two" {
		t.Errorf("with a broken file the last good credential is not used: %s", got)
	}
}

// TestConnectionIsRenewedAfterATimeout: what gave no answer may lead nowhere.
func TestConnectionIsRenewedAfterATimeout(t *testing.T) {
	c, _, server := newConnection(t)
	before := c.current.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/hang", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := c.RoundTrip(request); err == nil {
		_ = response.Body.Close()
		t.Fatal("the server answered")
	}
	if c.current.Load() == before {
		t.Error("the connection that gave no answer is used again")
	}
}
