package httpserver

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestServer(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "projectord_test_total", Help: "For the test."})
	registry.MustRegister(counter)
	var problems []string
	s, err := Listen("127.0.0.1:0", func() []string { return problems }, registry)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()

	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	problems = []string{"api-server: refused", "root-dir: locked"}
	tests := []struct {
		name, path, want string
		status           int
	}{
		{"alive though not ready", "/livez", "ok\n", 200},
		{"not ready", "/readyz", "api-server: refused\nroot-dir: locked\n", 503},
		{"metrics", "/metrics", "projectord_test_total 0", 200},
		{"nothing else", "/", "not found", 404},
		{"no profiling", "/debug/pprof/", "not found", 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if status, body := get(tt.path); status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%s: %d %q, want %d with %q", tt.path, status, body, tt.status, tt.want)
			}
		})
	}
	problems = nil
	if status, body := get("/readyz"); status != 200 || body != "ok\n" {
		t.Errorf("ready: %d %q", status, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopping: %v", err)
	}
	if _, err := Listen("256.0.0.1:1", nil, registry); err == nil || !strings.Contains(err.Error(), "--http-address") {
		t.Errorf("a bad address: %v", err)
	}
}
