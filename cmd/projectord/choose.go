package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/token-projector/token-projector/internal/kubelet"
)

// Values of --pod-source.
const (
	podsAuto = "auto"
	podsNode = "node"
	podsNone = "none"
)

// chooser chooses the Pods of the node that get volumes without being asked
// for.
type chooser struct {
	source     string
	selector   labels.Selector
	namespaces []string // none: all
	// served says that a kubelet serves the node's Pods. It is never taken back:
	// a kubelet that is away for a while comes back.
	served atomic.Bool
}

func newChooser(o *options) *chooser {
	return &chooser{source: o.podSource, selector: o.selector, namespaces: o.namespaces}
}

// chooses says whether a Pod gets volumes. Beside a kubelet only those do that
// were selected, unless the flags say otherwise.
func (c *chooser) chooses(pod *corev1.Pod) bool {
	if len(c.namespaces) > 0 && !slices.Contains(c.namespaces, pod.Namespace) {
		return false
	}
	switch c.source {
	case podsNone:
		return false
	case podsAuto:
		if c.selector.Empty() && c.served.Load() {
			return false
		}
	}
	return c.selector.Matches(labels.Set(pod.Labels))
}

// lookForKubelet settles what there is to choose from before Pods are looked
// at. It refuses to share a kubelet's own directory.
func (c *chooser) lookForKubelet(ctx context.Context, o *options, logger *slog.Logger) error {
	evidence := kubelet.Evidence(ctx, o.kubeletDir)
	if evidence == "" {
		return nil
	}
	return c.foundKubelet(o, logger, evidence)
}

// waitForKubelet goes on looking: at boot it may come later than this.
func (c *chooser) waitForKubelet(ctx context.Context, o *options, logger *slog.Logger) error {
	if c.served.Load() {
		return nil
	}
	if evidence := kubelet.Wait(ctx, o.kubeletDir); evidence != "" {
		return c.foundKubelet(o, logger, evidence)
	}
	return nil
}

func (c *chooser) foundKubelet(o *options, logger *slog.Logger, evidence string) error {
	if kubelet.Owns(o.kubeletDir, o.rootDir) {
		return fmt.Errorf("--root-dir %s belongs to the kubelet that serves this node (%s): choose another", o.rootDir, evidence)
	}
	c.served.Store(true)
	switch {
	case c.source == podsNode:
		logger.Warn("a kubelet serves this node's Pods; by --pod-source=node they get the same volumes here too", "evidence", evidence)
	case c.source == podsAuto && c.selector.Empty():
		logger.Warn("a kubelet serves this node's Pods, so none of them gets a volume here, but for those that have one already; "+
			"select those that should with --pod-selector", "evidence", evidence)
	default:
		logger.Info("a kubelet serves this node", "evidence", evidence)
	}
	return nil
}
