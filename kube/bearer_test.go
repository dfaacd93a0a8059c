package kube

import (
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/token-projector/token-projector/rotation"
)

// TestServer asks an API server that knows one token and whose clock is wrong.
func TestServer(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "application/json")
		switch r.Header.Get("Authorization") {
		case "Bearer good":
			_, _ = w.Write([]byte(`{"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "status": {"userInfo": {"username": "jane"}}}`))
		case "Bearer broken":
			w.WriteHeader(http.StatusInternalServerError)
		default: // also of the question for the time, which has none
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	address, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeCA(t, dir, s)
	write(t, dir+"/token", "good") // which must not be used
	find := map[string]func(*testing.T) (*Server, error){
		"kubeconfig": func(t *testing.T) (*Server, error) { return FindServer(writeKubeconfig(t, dir, s.URL), nil) },
		"environment": func(t *testing.T) (*Server, error) {
			host, port, _ := net.SplitHostPort(address.Host)
			t.Setenv("KUBERNETES_SERVICE_HOST", host)
			t.Setenv("KUBERNETES_SERVICE_PORT", port)
			if _, err := FindServer("", nil); !errors.Is(err, ErrNoServer) {
				t.Errorf("without a CA: %v", err)
			}
			return FindServer("", ca)
		},
	}
	for name, find := range find {
		t.Run(name, func(t *testing.T) {
			server, err := find(t)
			if err != nil {
				t.Fatal(err)
			}
			if server.Address() != s.URL {
				t.Errorf("its address is %s, want %s", server.Address(), s.URL)
			}
			if user, accepted, err := server.WhoIs(t.Context(), rotation.NewToken("good")); user != "jane" || !accepted || err != nil {
				t.Errorf("a good token: %q, %t, %v", user, accepted, err)
			}
			if user, accepted, err := server.WhoIs(t.Context(), rotation.NewToken("bad")); user != "" || accepted || err != nil {
				t.Errorf("a bad token: %q, %t, %v", user, accepted, err)
			}
			if _, accepted, err := server.WhoIs(t.Context(), rotation.NewToken("broken")); accepted || err == nil || strings.Contains(err.Error(), "broken") {
				t.Errorf("a server that fails: %t, %v", accepted, err)
			}
			offset, err := server.ClockOffset(t.Context())
			if err != nil || (offset-90*time.Second).Abs() > 2*time.Second {
				t.Errorf("its clock is %v ahead, %v; want 90s", offset, err)
			}
		})
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := FindServer("", ca); !errors.Is(err, ErrNoServer) {
		t.Errorf("without an address: %v", err)
	}
	if _, err := FindServer(dir+"/token", nil); err == nil {
		t.Error("a file that is no kubeconfig is taken")
	}
}
