package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/token-projector/token-projector/projector/payload"
)

// byUID is the index by which Pod looks up.
const byUID = "uid"

// newPodWatch makes the informer for the node's Pods; it starts nothing. A
// node identity may list and watch Pods only by spec.nodeName.
func (c *Client) newPodWatch() (cache.Indexer, cache.Controller) {
	onNode := fields.OneTermEqualSelector("spec.nodeName", c.node).String()
	inner := cache.NewFilteredListWatchFromClient(c.core, "pods", metav1.NamespaceAll,
		func(o *metav1.ListOptions) { o.FieldSelector = onNode })
	reporting := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := inner.ListWithContext(ctx, o)
			return list, c.reported(ctx, err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := inner.WatchWithContext(ctx, o)
			return w, c.reported(ctx, err)
		},
	}
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: reporting,
		ObjectType:    &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: c.podEvent,
			UpdateFunc: func(before, now any) {
				// One Pod may have taken another's name between two events, which
				// then is deleted.
				if before.(*corev1.Pod).UID != now.(*corev1.Pod).UID {
					c.podDeleted(before)
				}
				c.podEvent(now)
			},
			DeleteFunc: c.podDeleted,
		},
		Indexers: cache.Indexers{byUID: func(obj any) ([]string, error) {
			return []string{string(obj.(*corev1.Pod).UID)}, nil
		}},
		Transform: slim,
	})
	return store.(cache.Indexer), controller
}

func (c *Client) podEvent(obj any) {
	if pod, ok := obj.(*corev1.Pod); ok {
		c.vouched.drop(pod.UID)
		c.handlers.Pod(pod)
	}
}

// podDeleted is told of a deletion that the API server told, and of a Pod that
// is merely missing in a new list.
func (c *Client) podDeleted(obj any) {
	missing, ok := obj.(cache.DeletedFinalStateUnknown)
	if ok {
		c.podEvent(missing.Obj)
		return
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		c.vouched.drop(pod.UID)
		c.handlers.PodDeleted(pod)
	}
}

// reported passes an error on and tells Report the state of the connection.
func (c *Client) reported(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.report(explain(fmt.Errorf("watching the node's Pods: %w", err)))
	case c.watch.HasSynced():
		c.report(nil)
	default:
		c.report(errNotSynced)
	}
	return err
}

// Pod returns the Pod with this UID as the watch last saw it, or for a while as
// ConfirmGone did; or nil. Only what projection needs is in it. It must not be
// changed.
func (c *Client) Pod(uid types.UID) *corev1.Pod {
	found, err := c.pods.ByIndex(byUID, string(uid))
	if err != nil || len(found) == 0 { // the index exists, so err is nil
		return c.vouched.get(uid)
	}
	return found[0].(*corev1.Pod)
}

// slim drops what projection does not need, which is most of a Pod.
func slim(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	pod.ManagedFields = nil
	pod.OwnerReferences = nil
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase}
	s := &pod.Spec
	resources, ephemeral := payload.NeedsResources(s), s.EphemeralContainers
	pod.Spec = corev1.PodSpec{
		NodeName:           s.NodeName,
		ServiceAccountName: s.ServiceAccountName,
		SecurityContext:    s.SecurityContext,
		Volumes:            slimVolumes(s.Volumes),
		InitContainers:     slimContainers(s.InitContainers, resources),
		Containers:         slimContainers(s.Containers, resources),
	}
	for i := range ephemeral {
		c := &ephemeral[i]
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name: c.Name, VolumeMounts: c.VolumeMounts, SecurityContext: c.SecurityContext,
			},
		})
	}
	return pod, nil
}

func slimVolumes(volumes []corev1.Volume) []corev1.Volume {
	var out []corev1.Volume
	for _, v := range volumes {
		if v.Projected != nil || v.CSI != nil {
			out = append(out, v)
		}
	}
	return out
}

func slimContainers(containers []corev1.Container, resources bool) []corev1.Container {
	out := make([]corev1.Container, len(containers))
	for i := range containers {
		c := &containers[i]
		out[i] = corev1.Container{Name: c.Name, VolumeMounts: c.VolumeMounts, SecurityContext: c.SecurityContext}
		if resources {
			out[i].Resources = c.Resources
		}
	}
	return out
}
