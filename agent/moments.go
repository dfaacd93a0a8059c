package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/token-projector/token-projector/internal/clock"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

// watchClock has tokens looked at when the clock is set or the machine slept.
func (a *Agent) watchClock(ctx context.Context) error {
	return clock.Watch(ctx, func(c clock.Change) {
		a.cfg.Logger.Warn("the clock was set, or the machine slept; tokens are looked at again", "set_by", c.Set, "slept", c.Slept)
		if c.Slept > 0 {
			a.Cluster.ForgetServerTime()
		}
		a.Tokens.ClockChanged(c.Slept)
		if err := a.Cluster.LearnServerTime(ctx); err != nil {
			a.cfg.Logger.Warn("the API server's time is not known", "error", err)
			return
		}
		a.Tokens.ServerClockChanged() // its clock may have been set with ours
	})
}

// serverClockChanged has tokens looked at when the API server's clock has become
// another.
func (a *Agent) serverClockChanged() {
	now, _ := a.Cluster.ServerTime()
	a.cfg.Logger.Warn("the API server's clock was set, or ours; tokens are looked at again", "server_time", now.UTC())
	a.Tokens.ServerClockChanged()
}

// afterOutage passes each rotation on, and calls ended when the API server grants
// a token after it could not be asked: what has lapsed meanwhile must not wait for
// its own next attempt. What it refused for a reason is no outage. ended must not
// block: it is called in the middle of a pass.
func afterOutage(next func(rotation.Rotation), ended func()) func(rotation.Rotation) {
	var away atomic.Bool
	return func(r rotation.Rotation) {
		next(r)
		_, refused := projector.RetryAfter(r.Err)
		switch {
		case r.Err == nil && away.Swap(false):
			ended()
		case r.Err != nil && !refused && !errors.Is(r.Err, projector.ErrCatchingUp):
			away.Store(true)
		}
	}
}

// warnOfRate says when the rate limit can't keep up with the tokens that there
// are. It looks when all volumes of the start have had their turn, and then
// now and then.
func (a *Agent) warnOfRate(ctx context.Context) {
	perSecond := float64(a.cfg.Cluster.QPS)
	for wait := time.Minute; ; wait = 10 * time.Minute {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		// Half of it, because not all rotations are evenly spread.
		if needed := a.Tokens.Demand(); needed > perSecond/2 {
			a.cfg.Logger.Warn("the rate limit may be too low for the tokens of this node; raise it (--kube-api-qps)",
				"rotations_per_second", needed, "limit", perSecond)
		}
	}
}
