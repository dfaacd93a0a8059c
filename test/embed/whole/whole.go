// Package whole is a runtime in Go that keeps its Pods' volumes itself, without a
// projectord: it embeds package agent. It is the code of docs/embedding.md.
package whole

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/agent"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/atomicdir"
	"github.com/token-projector/token-projector/projector/payload"
	"github.com/token-projector/token-projector/projector/rootlock"
)

// Runtime runs Pods. Make it with Serve.
type Runtime struct{ volumes *projector.Projector }

// Serve connects, calls run once the volumes of an earlier process are taken over, and
// returns when that has returned and ctx has ended; volumes stay for the next process.
// cfg says which cluster and node; see agent.Config.
func Serve(ctx context.Context, root string, cfg agent.Config, run func(context.Context, *Runtime) error) (err error) {
	waiting, cancel := context.WithTimeout(ctx, rootlock.Timeout)
	defer cancel()
	cfg.Lock, err = rootlock.Acquire(waiting, root, func(err error) { cfg.Logger.Warn("waiting for the root directory", "reason", err) })
	if err != nil {
		return unlessEnded(ctx, err)
	}
	defer func() { err = errors.Join(err, cfg.Lock.Release()) }()

	adopted := make(chan struct{})
	cfg.Volumes = projector.Config{
		Medium:          medium(root, cfg.Logger),
		KeepOwners:      os.Geteuid() != 0,
		GenerationGrace: atomicdir.DefaultGrace,
		MassRemovalHold: projector.DefaultMassRemovalHold,
		GoneGrace:       projector.DefaultGoneGrace,
		Chooses:         func(*corev1.Pod) bool { return false }, // only what is published
		Adopted:         func() { close(adopted) },
	}
	node, err := agent.Connect(ctx, cfg)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return node.Run(ctx) })
	group.Go(func() error {
		select {
		case <-adopted:
			return run(ctx, &Runtime{volumes: node.Volumes})
		case <-ctx.Done():
			return nil
		}
	})
	return group.Wait()
}

// unlessEnded takes an error for none if it is that of a context that has ended.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// medium keeps tokens off the disk where this process may mount.
func medium(root string, logger *slog.Logger) projector.Medium {
	if err := projector.TmpfsAvailable(root); err != nil {
		logger.Warn("volumes are plain directories", "reason", err)
		return projector.MediumDirectory
	}
	return projector.MediumTmpfs
}

// Prepare returns the directories to mount into a Pod's containers, read-only, by the
// names of volumes. Call it again after a restart, for each Pod that still runs.
func (r *Runtime) Prepare(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	directories := map[string]string{}
	for _, v := range payload.Volumes(pod) {
		key := projector.Key{PodUID: pod.UID, Volume: v.Name}
		if err := r.volumes.Publish(key); err != nil {
			return nil, err
		}
		if err := r.volumes.Await(ctx, key); err != nil {
			return nil, fmt.Errorf("volume %s of Pod %s/%s: %w", v.Name, pod.Namespace, pod.Name, err)
		}
		status, ok := r.volumes.Volume(key)
		if !ok {
			return nil, fmt.Errorf("volume %s of Pod %s/%s was removed meanwhile", v.Name, pod.Namespace, pod.Name)
		}
		directories[v.Name] = status.Path
	}
	return directories, nil
}

// Remove removes the volumes of a Pod whose processes have ended.
func (r *Runtime) Remove(ctx context.Context, pod *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, v := range payload.Volumes(pod) {
		if err := r.volumes.Unpublish(ctx, projector.Key{PodUID: pod.UID, Volume: v.Name}); err != nil {
			return fmt.Errorf("removing volume %s of Pod %s/%s: %w", v.Name, pod.Namespace, pod.Name, err)
		}
	}
	return nil
}
