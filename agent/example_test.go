package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/token-projector/token-projector/agent"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/rootlock"
)

// A node agent: it keeps the volumes of all Pods of its node until it is interrupted.
// What goes on from there is in docs/embedding.md, and in test/embed against a real
// API server.
func ExampleConnect() {
	serve := func(ctx context.Context) (err error) {
		lock, err := rootlock.Acquire(ctx, "/run/my-runtime", func(error) {})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.Release()) }()
		node, err := agent.Connect(ctx, agent.Config{
			Lock:    lock,
			Logger:  slog.Default(),
			Cluster: kube.Options{Kubeconfig: "/etc/kubernetes/node.kubeconfig", NodeName: "my-node"},
			Volumes: projector.Config{
				GenerationGrace: atomicdir.DefaultGrace,
				MassRemovalHold: projector.DefaultMassRemovalHold,
			},
			CheckAccounts: 10 * time.Minute,
		})
		if err != nil {
			return err
		}
		return node.Run(ctx)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx); err != nil {
		slog.Error("stopped", "error", err)
	}
}
