package agent

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/token-projector/token-projector/kube"
)

// Run keeps the volumes until ctx ends, and then returns nil when everything that
// it started has ended; volumes stay as they are. It fails if clocks can't be watched,
// the root directory can't be read, or Config.Synced says so. Call it once.
func (a *Agent) Run(ctx context.Context) error {
	defer a.moments.Wait() // after all that begins one
	group, ctx := errgroup.WithContext(a.withLogger(ctx))
	synced := make(chan struct{})
	group.Go(func() error {
		a.Cluster.Run(ctx, kube.Handlers{
			Pod: a.Volumes.Enqueue, PodDeleted: a.Volumes.Deleted, Volume: a.Volumes.EnqueueVolume,
			Synced: func() { close(synced) },
			// In another goroutine: this one is in the middle of a request.
			ServerClock: func() { a.moments.Go(a.serverClockChanged) },
		})
		return nil
	})
	group.Go(func() error {
		select {
		case <-synced:
			if err := a.cfg.Synced(); err != nil {
				return err
			}
			return a.Volumes.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error { return a.watchClock(ctx) })
	group.Go(func() error { a.warnOfRate(ctx); return nil })
	group.Go(func() error { a.Tokens.CheckAccounts(ctx, a.cfg.CheckAccounts, a.lookup); return nil })
	return group.Wait()
}
