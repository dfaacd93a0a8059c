package kube

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/token-projector/token-projector/projector"
)

// Handlers are told of changes. None may block; nil is for what is of no interest.
type Handlers struct {
	// Pod is told of each Pod of the node, and each time something about it
	// changes, also if it is missing in a new list.
	Pod func(*corev1.Pod)
	// PodDeleted is told of each deletion.
	PodDeleted func(*corev1.Pod)
	// Volume is told of each volume that uses an object which changed.
	Volume func(projector.Key)
	// Synced is called once, when Pod has been told of all that exist.
	Synced func()
	// ServerClock is told when the API server's clock, as seen from this node,
	// has become another; see ServerTime.
	ServerClock func()
}

// orNothing has no nil in it.
func (h Handlers) orNothing() Handlers {
	if h.Pod == nil {
		h.Pod = func(*corev1.Pod) {}
	}
	if h.PodDeleted == nil {
		h.PodDeleted = func(*corev1.Pod) {}
	}
	if h.Volume == nil {
		h.Volume = func(projector.Key) {}
	}
	if h.Synced == nil {
		h.Synced = func() {}
	}
	if h.ServerClock == nil {
		h.ServerClock = func() {}
	}
	return h
}

// Run watches the node's Pods, and the objects that volumes use, until ctx
// ends, and returns when all that it started has ended. Call it once. client-go's own messages go to the logger that klog finds in
// ctx (klog.NewContext), or else to klog's global one.
func (c *Client) Run(ctx context.Context, h Handlers) {
	h = h.orNothing()
	c.running, c.handlers = ctx, h
	c.connection.clock.onJump(h.ServerClock)
	reader, ofRootCAs := c.core, c.core
	switch c.ownObjects {
	case OwnRootCA:
		ofRootCAs = c.own
	case OwnAll:
		reader, ofRootCAs = c.own, c.own
	}
	c.configMaps, c.rootCAs = newObjects(configMapAPI{reader}, h.Volume), newObjects(configMapAPI{ofRootCAs}, h.Volume)
	c.secrets, c.secretReader = newObjects(secretAPI{reader}, h.Volume), reader
	c.trustBundles = newObjects(trustBundleAPI{c.certificates}, h.Volume)
	defer c.configMaps.end()
	defer c.rootCAs.end()
	defer c.secrets.end()
	defer c.trustBundles.end()
	defer c.connection.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.events.run(ctx) })
	wg.Go(func() { c.connection.follow(ctx, c.reportFiles) })
	wg.Go(func() {
		select {
		case <-c.watch.HasSyncedChecker().Done():
			c.report(nil)
			h.Synced()
		case <-ctx.Done():
		}
	})
	c.watch.RunWithContext(ctx)
}
