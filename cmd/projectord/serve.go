package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/token-projector/token-projector/agent"
	"github.com/token-projector/token-projector/internal/csi"
	"github.com/token-projector/token-projector/internal/health"
	"github.com/token-projector/token-projector/internal/httpserver"
	"github.com/token-projector/token-projector/internal/metrics"
	"github.com/token-projector/token-projector/internal/names"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/rootlock"
)

// serve does the daemon's work until ctx ends. The lock is taken before
// anything else is touched, and given back last.
func serve(ctx context.Context, o *options, logger *slog.Logger) (err error) {
	logger.Info("starting", "version", version(), "node", o.nodeName, "root_dir", o.rootDir,
		"rotation_fraction", o.policy.Fraction, "rotation_max_age", o.policy.MaxAge, "rotation_spread", o.policy.Spread)
	pods := newChooser(o)
	if err := pods.lookForKubelet(ctx, o, logger); err != nil {
		return err
	}
	locking, cancel := context.WithTimeout(ctx, rootlock.Timeout)
	lock, err := rootlock.Acquire(locking, o.rootDir, func(err error) {
		logger.Warn("waiting for the root directory", "at_most", rootlock.Timeout, "reason", err)
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

	driver, err := newCSIDriver(o, logger)
	if err != nil {
		return err
	}
	runtimes, err := newRuntimes(o, logger)
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	reports := reports{api: api.Report, credential: credential.Report, volumes: volumes.Report}
	group.Go(func() error { return pods.waitForKubelet(ctx, o, logger) })
	if driver != nil {
		group.Go(func() error { return driver.Run(ctx) })
	}
	if runtimes != nil {
		group.Go(func() error { return serveRuntimes(ctx, o, logger, runtimes) })
	}
	askers := askers{pods: pods, csi: driver, runtimes: runtimes}
	group.Go(func() error { return project(ctx, o, logger, lock, askers, reports, registry) })
	return group.Wait()
}

// reports are told what is wrong, or nil.
type reports struct{ api, credential, volumes func(error) }

// project keeps the node's volumes until ctx ends.
func project(ctx context.Context, o *options, logger *slog.Logger, lock *rootlock.Lock, askers askers, report reports, registry *prometheus.Registry) error {
	medium, err := chooseMedium(o, logger)
	if err != nil {
		return err
	}
	var node *agent.Agent
	node, err = agent.Connect(ctx, agent.Config{
		Lock: lock, Policy: o.policy, CheckAccounts: o.accounts, Logger: logger, Metrics: registry,
		Cluster: kube.Options{
			Kubeconfig: o.kubeconfig, Identity: o.identity, Fallback: o.fallback, NodeName: o.nodeName, QPS: o.qps, Burst: o.burst,
			OwnObjects: o.csiObjects, UserAgent: names.Daemon + "/" + version(), Report: report.api, ReportCredential: report.credential,
		},
		Volumes: projector.Config{
			Medium: medium, SizeLimit: o.sizeLimit, TotalSizeLimit: o.totalLimit, GenerationGrace: o.grace, Chooses: askers.pods.chooses,
			KeepOwners: keepOwners(logger), MassRemovalHold: o.hold, GoneGrace: askers.goneGrace(),
			CSIDriver: names.CSIDriver, Changed: askers.changed,
			Adopted: func() {
				report.volumes(nil)
				askers.serveRuntimes(node)
			},
		},
		Synced: func() error { return askers.serveKubelet(node) },
	})
	if err != nil {
		return ignoreEnd(ctx, err)
	}
	sayWho(logger, node.Cluster.Choice())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return node.Run(ctx) })
	group.Go(func() error { rotateOnSignal(ctx, logger, node.Tokens); return nil })
	return group.Wait()
}

// newCSIDriver makes the CSI driver, if there is to be one.
func newCSIDriver(o *options, logger *slog.Logger) (*csi.Driver, error) {
	if o.csiSocket == "" {
		return nil, nil //nolint:nilnil // none is wanted
	}
	return csi.New(csi.Config{
		Name: names.CSIDriver, Version: version(), NodeName: o.nodeName, Socket: o.csiSocket, KubeletDir: o.kubeletDir, AnyObject: o.csiObjects == kube.OwnAll, Logger: logger,
	})
}

// sayWho logs as whom requests are made, and what that means.
func sayWho(logger *slog.Logger, c kube.Choice) {
	logger.Info("making requests", "identity", c.Identity, "user", c.User, "reason", c.Reason)
	if c.Warning != "" {
		logger.Warn(c.Warning+"; without one, whoever takes its token can act as any ServiceAccount that it may request tokens of: "+
			"see to it that the policy of the overlay serviceaccount is there", "user", c.User)
	}
}

// ignoreEnd turns the error of a wait that ended with the process into none.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
