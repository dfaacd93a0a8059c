// Package agent is projectord without the process around it, for a runtime in Go
// that keeps its Pods' volumes itself: it puts packages kube, rotation and projector
// together, with what must happen when clocks are set, the machine has slept or the
// API server was away.
//
// It listens on nothing, and has neither the CSI driver nor the gRPC service. A
// runtime without a file system to share with its Pods takes packages rotation and
// projector/payload instead. It runs on Linux only.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/token-projector/token-projector/internal/metrics"
	"github.com/token-projector/token-projector/kube"
	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/rootlock"
	"github.com/token-projector/token-projector/rotation"
)

// DefaultQPS and DefaultBurst are projectord's: at a node's boot each of 250 Pods
// makes two requests at once.
const (
	DefaultQPS   = 100
	DefaultBurst = 500
)

// Config is what an Agent needs. Fields without a default are required.
type Config struct {
	// Lock is on the root directory; it must be held until Run has returned.
	Lock *rootlock.Lock
	// Cluster says how to reach the API server, as whom, and for which node. Its
	// QPS and Burst hold for first tokens, for rotations and for everything else
	// each; their defaults are DefaultQPS and DefaultBurst.
	Cluster kube.Options
	// Policy says when tokens are replaced; the default is rotation.DefaultPolicy.
	Policy rotation.Policy
	// Volumes says what is to be kept, and how. Its Root, Cluster, Tokens and Logger
	// are set by Connect. Its zero durations remove at once what is not wanted; those of
	// projectord are atomicdir.DefaultGrace for GenerationGrace,
	// projector.DefaultMassRemovalHold and, where it serves runtimes,
	// projector.DefaultGoneGrace.
	Volumes projector.Config
	// CheckAccounts is how often each ServiceAccount is looked up, to replace the
	// tokens of one that was deleted and created again. Zero is never; projectord's
	// default is ten minutes.
	CheckAccounts time.Duration
	// Logger is told what happens, also what client-go has to say.
	Logger *slog.Logger
	// Metrics is where projectord's metrics are registered; the default is nowhere.
	// Give each Connect one of its own, which it registers with when it succeeds: it
	// panics where they are registered already.
	Metrics prometheus.Registerer
	// Synced, unless nil, is called once in Run, when the node's Pods are known and
	// before any volume is looked at. Its error ends Run.
	Synced func() error
}

// Agent keeps the volumes of one node's Pods. Make it with Connect. Its fields must
// not be changed; their methods may be called concurrently, and work while Run does.
type Agent struct {
	Cluster *kube.Client
	Tokens  *rotation.Manager
	Volumes *projector.Projector

	cfg     Config
	lookup  func(ctx context.Context, namespace, name string) (uid string, err error)
	moments sync.WaitGroup // what Run's own goroutines must not wait for
}

// Connect returns an agent when the API server has accepted it, and tries until then;
// see kube.Connect. It fails if cfg is wrong and when ctx ends. It starts nothing that
// goes on and touches no volume.
func Connect(ctx context.Context, cfg Config) (*Agent, error) {
	if cfg.Lock == nil || cfg.Logger == nil {
		return nil, errors.New("an agent needs a logger and the lock of a root directory")
	}
	if cfg.Cluster.QPS == 0 {
		cfg.Cluster.QPS = DefaultQPS
	}
	if cfg.Cluster.Burst == 0 {
		cfg.Cluster.Burst = DefaultBurst
	}
	if cfg.Policy == (rotation.Policy{}) {
		cfg.Policy = rotation.DefaultPolicy()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.Synced == nil {
		cfg.Synced = func() error { return nil }
	}
	if err := cfg.Policy.Validate(); err != nil { // before waiting for the API server
		return nil, err
	}
	cfg.Volumes.Root = cfg.Lock.Root()
	if err := cfg.Volumes.Validate(); err != nil {
		return nil, err
	}
	pace, err := rotation.NewPace(float64(cfg.Cluster.QPS), cfg.Cluster.Burst)
	if err != nil {
		return nil, fmt.Errorf("the rate of requests: %w", err)
	}

	a := &Agent{cfg: cfg}
	if a.Cluster, err = kube.Connect(a.withLogger(ctx), cfg.Cluster); err != nil {
		return nil, err
	}
	observe := afterOutage(metrics.NewRotations(cfg.Metrics), func() { a.moments.Go(a.Volumes.EnqueueUrgent) })
	a.Tokens, err = rotation.NewManager(metrics.NewMinter(cfg.Metrics, a.Cluster), cfg.Policy, rotation.WithPace(pace),
		rotation.WithServerClock(a.Cluster.ServerTime), rotation.WithObserver(observe))
	if err != nil {
		return nil, err
	}
	cfg.Volumes.Cluster, cfg.Volumes.Tokens, cfg.Volumes.Logger = a.Cluster, a.Tokens, cfg.Logger
	if a.Volumes, err = projector.New(cfg.Volumes); err != nil {
		return nil, err
	}
	metrics.RegisterVolumes(cfg.Metrics, a.Volumes, a.Tokens)
	metrics.RegisterClock(cfg.Metrics, a.Cluster.ServerTime)
	a.lookup = metrics.CountLookups(cfg.Metrics, a.Cluster.ServiceAccountUID)
	return a, nil
}

// withLogger has client-go log to Config.Logger.
func (a *Agent) withLogger(ctx context.Context) context.Context {
	return klog.NewContext(ctx, logr.FromSlogHandler(a.cfg.Logger.With("component", "client-go").Handler()))
}
