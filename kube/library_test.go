package kube

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/token-projector/token-projector/rotation"
)

// TestConnectSaysWhatWasWrong: who gives Connect so much time is told why it was not
// enough.
func TestConnectSaysWhatWasWrong(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no-such-kubeconfig")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Connect(ctx, Options{Kubeconfig: missing, NodeName: "n", Report: func(error) { cancel() }})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), missing) {
		t.Errorf("Connect() = %v, want the end of the context and the missing file", err)
	}
	if _, err := Connect(t.Context(), Options{Kubeconfig: missing}); err == nil || !strings.Contains(err.Error(), "node") {
		t.Errorf("Connect() without a node = %v", err)
	}
}

// lines is a log that tells of each line that holds a text.
type lines struct {
	mu    sync.Mutex
	all   bytes.Buffer
	about string
	seen  func()
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(p, []byte(l.about)) {
		l.seen()
	}
	return l.all.Write(p)
}

// TestLogsToTheContext: what client-go has to say goes where the caller wants it,
// without a global. Nil handlers are none.
func TestLogsToTheContext(t *testing.T) {
	dir, server := t.TempDir(), httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not today", http.StatusTeapot)
	}))
	defer server.Close()
	writeCA(t, dir, server)
	write(t, filepath.Join(dir, "token"), "one")
	c, err := newClient(Options{Kubeconfig: writeKubeconfig(t, dir, server.URL), NodeName: "n",
		Report: func(error) {}, ReportCredential: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seen := false
	log := &lines{about: "status code 418", seen: func() { seen = true; cancel() }}
	logger := logr.FromSlogHandler(slog.NewTextHandler(log, nil))
	c.Run(klog.NewContext(ctx, logger), Handlers{})
	if !seen {
		t.Errorf("the context's logger was not told of the refused watch; it has:\n%s", &log.all)
	}
}

// TestMinter sends what the API server gets from a Client too.
func TestMinter(t *testing.T) {
	var path, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		path, body = r.URL.Path, string(text)
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(body, "old-uid") {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Conflict","code":409}`)
			return
		}
		_, _ = io.WriteString(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","metadata":{},
			"spec":{"audiences":["vault"]},"status":{"token":"secret","expirationTimestamp":"2030-01-02T03:04:05Z"}}`)
	}))
	defer server.Close()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{Host: server.URL, APIPath: "/api", ContentConfig: contentConfig(scheme)}
	config.ContentType, config.GroupVersion = "application/json", &corev1.SchemeGroupVersion
	core, err := rest.RESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	minter := Minter{Core: core}
	r := rotation.Request{Namespace: "shop", ServiceAccount: "web", Pod: rotation.ObjectRef{Name: "web-1", UID: "pod-uid"},
		Audience: "vault", Lifetime: 20 * time.Minute}
	token, expires, err := minter.Mint(t.Context(), r, "")
	if err != nil {
		t.Fatal(err)
	}
	if token.Reveal() != "secret" || expires.UTC() != time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) {
		t.Errorf("Mint() = %q, %v", token.Reveal(), expires)
	}
	if want := "/api/v1/namespaces/shop/serviceaccounts/web/token"; path != want {
		t.Errorf("asked %s, want %s", path, want)
	}
	for _, want := range []string{`"vault"`, `"expirationSeconds":1200`, `"uid":"pod-uid"`, `"kind":"Pod"`, `"name":"web-1"`} {
		if !strings.Contains(body, want) {
			t.Errorf("asked for %s, without %s", body, want)
		}
	}
	if _, _, err := minter.Mint(t.Context(), r, "old-uid"); !errors.Is(err, rotation.ErrServiceAccountReplaced) {
		t.Errorf("Mint() of another ServiceAccount = %v", err)
	}
}

// TestConnectLeavesNoConnection: attempts that failed keep none open.
func TestConnectLeavesNoConnection(t *testing.T) {
	states := make(chan http.ConnState, 100)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusForbidden)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew || s == http.StateClosed {
			states <- s
		}
	}
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	writeCA(t, dir, server)
	write(t, filepath.Join(dir, "token"), "one")
	ctx, cancel := context.WithCancel(t.Context())
	attempts := 0
	_, err := Connect(ctx, Options{Kubeconfig: writeKubeconfig(t, dir, server.URL), NodeName: "n", Report: func(error) {
		if attempts++; attempts == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || attempts != 3 {
		t.Fatalf("Connect() = %v after %d attempts", err, attempts)
	}
	opened, closed := 0, 0
	for opened == 0 || closed < opened {
		select {
		case s := <-states:
			if s == http.StateNew {
				opened++
			} else {
				closed++
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%d connections were opened, and %d closed", opened, closed)
		}
	}
}
