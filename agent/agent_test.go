package agent

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector/rootlock"
	"github.com/token-projector/token-projector/rotation"
)

// TestConnectChecksFirst: what is wrong with a Config is said without an API server. A
// context that has ended is what ends the attempts of a Config that is right.
func TestConnectChecksFirst(t *testing.T) {
	lock, err := rootlock.Acquire(t.Context(), t.TempDir(), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	}()
	for _, tt := range []struct {
		name   string
		mutate func(*Config)
		says   string
	}{
		{"right", func(*Config) {}, context.Canceled.Error()},
		{"no lock", func(c *Config) { c.Lock = nil }, "lock"},
		{"no logger", func(c *Config) { c.Logger = nil }, "logger"},
		{"no node", func(c *Config) { c.Cluster.NodeName = "" }, "node's name"},
		{"a bad policy", func(c *Config) { c.Policy = rotation.Policy{Fraction: 2} }, "fraction"},
		{"a bad medium", func(c *Config) { c.Volumes.Medium = "paper" }, "medium"},
		{"a bad rate", func(c *Config) { c.Cluster.QPS = -1 }, "rate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Lock: lock, Logger: slog.New(slog.DiscardHandler), Cluster: kube.Options{
				Kubeconfig: filepath.Join(t.TempDir(), "none"), NodeName: "n",
			}}
			tt.mutate(&cfg)
			ctx, cancel := context.WithCancel(t.Context())
			cfg.Cluster.Report = func(error) { cancel() }
			a, err := Connect(ctx, cfg)
			if err == nil || a != nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("Connect() = %v, %v, want an error that says %q", a, err, tt.says)
			}
			if tried := errors.Is(err, context.Canceled); tried != (tt.name == "right") {
				t.Errorf("the API server was looked for: %v", tried)
			}
		})
	}
}
