package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/token-projector/token-projector/internal/clock"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/rotation"
)

// watchClock has tokens looked at when the clock is set or the machine slept.
func watchClock(ctx context.Context, logger *slog.Logger, client *kube.Client, tokens *rotation.Manager) error {
	return clock.Watch(ctx, func(c clock.Change) {
		logger.Warn("the clock was set, or the machine slept; tokens are looked at again", "set_by", c.Set, "slept", c.Slept)
		if err := client.LearnServerTime(ctx, c.Slept > 0); err != nil {
			logger.Warn("the API server's time is not known", "error", err)
		}
		tokens.ClockChanged(c.Slept)
	})
}

// rotateOnSignal replaces all tokens, one after another, at each SIGUSR1: for a
// change of the API server's signing key.
func rotateOnSignal(ctx context.Context, logger *slog.Logger, tokens *rotation.Manager) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	for {
		select {
		case <-signals:
			n, within := tokens.RotateAll()
			logger.Info("rotating all tokens, by SIGUSR1", "tokens", n, "within", within)
		case <-ctx.Done():
			return
		}
	}
}
