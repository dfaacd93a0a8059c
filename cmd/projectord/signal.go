package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/token-projector/token-projector/rotation"
)

// rotateOnSignal replaces all tokens, one after another, at each SIGUSR1: for a
// change of the API server's signing key.
func rotateOnSignal(ctx context.Context, logger *slog.Logger, tokens *rotation.Manager) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	for {
		select {
		case <-signals:
			n, within := tokens.RotateAll(rotation.ForcedPace)
			logger.Info("rotating all tokens, by SIGUSR1", "tokens", n, "within", within)
		case <-ctx.Done():
			return
		}
	}
}
