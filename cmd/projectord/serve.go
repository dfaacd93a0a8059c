package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/token-projector/token-projector/internal/health"
	"github.com/token-projector/token-projector/internal/httpserver"
	"github.com/token-projector/token-projector/internal/metrics"
	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/internal/rootlock"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

// lockTimeout is how long another process may hold the root directory: long
// enough for the old one to end in a rolling update.
const lockTimeout = 30 * time.Second

// serve does the daemon's work until ctx ends. The lock is taken before
// anything else is touched, and given back last.
func serve(ctx context.Context, o *options, logger *slog.Logger) (err error) {
	logger.Info("starting", "version", version(), "node", o.nodeName, "root_dir", o.rootDir,
		"rotation_fraction", o.policy.Fraction, "rotation_max_age", o.policy.MaxAge, "rotation_spread", o.policy.Spread)
	locking, cancel := context.WithTimeout(ctx, lockTimeout)
	lock, err := rootlock.Acquire(locking, o.rootDir, func(err error) {
		logger.Warn("waiting for the root directory", "at_most", lockTimeout, "reason", err)
	})
	cancel()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()

	conditions := health.NewSet(logger)
	api := conditions.Add("api-server", "not connected yet")
	credential := conditions.Add("credential", "")
	volumes := conditions.Add("volumes", "those of an earlier process are not taken over yet; they stay as they are")
	registry := metrics.NewRegistry(version())
	server, err := httpserver.Listen(o.httpAddr, conditions.Problems, registry)
	if err != nil {
		return err
	}
	logger.Info("serving HTTP", "address", server.Addr().String())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	reports := reports{api: api.Report, credential: credential.Report, volumes: volumes.Report}
	group.Go(func() error { return project(ctx, o, logger, reports, registry) })
	return group.Wait()
}

// reports are told what is wrong, or nil.
type reports struct{ api, credential, volumes func(error) }

// project connects to the cluster, then keeps the node's volumes until ctx
// ends.
func project(ctx context.Context, o *options, logger *slog.Logger, report reports, registry *prometheus.Registry) error {
	client, err := kube.Connect(ctx, kube.Options{
		Kubeconfig: o.kubeconfig, NodeName: o.nodeName, QPS: o.qps, Burst: o.burst,
		UserAgent: names.Daemon + "/" + version(), Report: report.api, ReportCredential: report.credential,
	})
	if err != nil {
		return ignoreEnd(ctx, err)
	}
	pace, err := rotation.NewPace(float64(o.qps), o.burst)
	if err != nil {
		return err
	}
	var volumes *projector.Projector
	observe := afterOutage(metrics.NewRotations(registry), func() { volumes.EnqueueUrgent() })
	tokens, err := rotation.NewManager(metrics.NewMinter(registry, client), o.policy, rotation.WithPace(pace),
		rotation.WithServerClock(client.ServerTime), rotation.WithObserver(observe))
	if err != nil {
		return err
	}
	volumes, err = projector.New(projector.Config{
		Root: o.rootDir, Cluster: client, Tokens: tokens, Logger: logger,
		Medium: chooseMedium(o, logger), SizeLimit: o.sizeLimit, GenerationGrace: o.grace, Selector: o.selector,
		KeepOwners: keepOwners(logger), MassRemovalHold: o.hold,
		Adopted: func() { report.volumes(nil) },
	})
	if err != nil {
		return err
	}
	metrics.RegisterVolumes(registry, volumes, tokens)
	metrics.RegisterClock(registry, client.ServerTime)

	group, ctx := errgroup.WithContext(ctx)
	synced := make(chan struct{})
	group.Go(func() error {
		client.Run(ctx, kube.Handlers{
			Pod: volumes.Enqueue, PodDeleted: volumes.Deleted, Volume: volumes.EnqueueVolume,
			Synced: func() { close(synced) },
			// In another goroutine: this one is in the middle of a request.
			ServerClock: func() { go serverClockChanged(logger, client, tokens) },
		})
		return nil
	})
	group.Go(func() error {
		select {
		case <-synced:
			return volumes.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error { return watchClock(ctx, logger, client, tokens) })
	group.Go(func() error { rotateOnSignal(ctx, logger, tokens); return nil })
	group.Go(func() error { warnOfRate(ctx, logger, tokens, float64(o.qps)); return nil })
	if o.accounts > 0 {
		lookup := metrics.CountLookups(registry, client.ServiceAccountUID)
		group.Go(func() error { tokens.CheckAccounts(ctx, o.accounts, lookup); return nil })
	}
	return group.Wait()
}

// chooseMedium settles --volume-medium=auto.
func chooseMedium(o *options, logger *slog.Logger) projector.Medium {
	if o.medium != "" {
		return o.medium
	}
	if err := projector.TmpfsAvailable(o.rootDir); err != nil {
		logger.Warn("volumes are plain directories, because a tmpfs can't be mounted; "+
			"keep the root directory off the disk, or allow mounting", "root_dir", o.rootDir, "reason", err)
		return projector.MediumDirectory
	}
	return projector.MediumTmpfs
}

// keepOwners says whether files must stay this process's own.
func keepOwners(logger *slog.Logger) bool {
	if os.Geteuid() == 0 {
		return false
	}
	logger.Warn("not running as root: files belong to this user, whatever user or fsGroup a Pod asks for", "uid", os.Geteuid())
	return true
}

// ignoreEnd turns the error of a wait that ended with the process into none.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
