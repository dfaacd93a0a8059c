package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/token-projector/token-projector/internal/clock"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

// watchClock has tokens looked at when the clock is set or the machine slept.
func watchClock(ctx context.Context, logger *slog.Logger, client *kube.Client, tokens *rotation.Manager) error {
	return clock.Watch(ctx, func(c clock.Change) {
		logger.Warn("the clock was set, or the machine slept; tokens are looked at again", "set_by", c.Set, "slept", c.Slept)
		if c.Slept > 0 {
			client.ForgetServerTime()
		}
		tokens.ClockChanged(c.Slept)
		if err := client.LearnServerTime(ctx); err != nil {
			logger.Warn("the API server's time is not known", "error", err)
			return
		}
		tokens.ServerClockChanged() // its clock may have been set with ours
	})
}

// serverClockChanged has tokens looked at when the API server's clock has become
// another.
func serverClockChanged(logger *slog.Logger, client *kube.Client, tokens *rotation.Manager) {
	now, _ := client.ServerTime()
	logger.Warn("the API server's clock was set, or ours; tokens are looked at again", "server_time", now.UTC())
	tokens.ServerClockChanged()
}

// afterOutage passes each rotation on, and calls ended when the API server grants
// a token after it could not be asked: what has lapsed meanwhile must not wait for
// its own next attempt. What it refused for a reason is no outage.
func afterOutage(next func(rotation.Rotation), ended func()) func(rotation.Rotation) {
	var away atomic.Bool
	return func(r rotation.Rotation) {
		next(r)
		_, refused := projector.RetryAfter(r.Err)
		switch {
		case r.Err == nil && away.Swap(false):
			go ended() // this is in the middle of a pass
		case r.Err != nil && !refused && !errors.Is(r.Err, projector.ErrCatchingUp):
			away.Store(true)
		}
	}
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

// warnOfRate says when the rate limit can't keep up with the tokens that there
// are. It looks when all volumes of the start have had their turn, and then
// now and then.
func warnOfRate(ctx context.Context, logger *slog.Logger, tokens *rotation.Manager, perSecond float64) {
	for wait := time.Minute; ; wait = 10 * time.Minute {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		// Half of it, because not all rotations are evenly spread.
		if needed := tokens.Demand(); needed > perSecond/2 {
			logger.Warn("the rate limit may be too low for the tokens of this node; raise --kube-api-qps",
				"rotations_per_second", needed, "limit", perSecond)
		}
	}
}
