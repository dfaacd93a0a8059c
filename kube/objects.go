package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/projector/payload"
)

var _ projector.Cluster = (*Client)(nil)

// ConfigMap returns a ConfigMap that a Pod of the node references, as a watch
// last saw it, and has the volume looked at again when it changes, until it is
// released. Its errors are the API's. It works while Run does, like Secret and
// TrustBundles.
func (c *Client) ConfigMap(ctx context.Context, user projector.Key, namespace, name string) (*corev1.ConfigMap, error) {
	from := c.configMaps
	if name == payload.RootCAConfigMap {
		from = c.rootCAs
	}
	return from.getOne(ctx, c.running, user, objectName{namespace, name}, corev1.Resource("configmaps"))
}

// Secret returns the data of a Secret that a Pod of the node references. Only
// its metadata is watched; the data is fetched at each call and not kept.
func (c *Client) Secret(ctx context.Context, user projector.Key, namespace, name string) (map[string][]byte, error) {
	if _, err := c.secrets.getOne(ctx, c.running, user, objectName{namespace, name}, corev1.Resource("secrets")); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var secret corev1.Secret
	if err := c.secretReader.Get().Namespace(namespace).Resource("secrets").Name(name).Do(ctx).Into(&secret); err != nil {
		return nil, markCatchingUp(explain(err))
	}
	return secret.Data, nil
}

// TrustBundles returns all ClusterTrustBundles of the cluster, as a watch last
// saw them. They must not be changed.
func (c *Client) TrustBundles(ctx context.Context, user projector.Key) ([]*certificatesv1.ClusterTrustBundle, error) {
	items, err := c.trustBundles.get(ctx, c.running, user, objectName{})
	return slices.Collect(maps.Values(items)), err
}

// Allocatable is what the node has to give to Pods.
func (c *Client) Allocatable(ctx context.Context) (corev1.ResourceList, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var node corev1.Node
	if err := c.core.Get().Resource("nodes").Name(c.node).Do(ctx).Into(&node); err != nil {
		return nil, fmt.Errorf("looking up node %q: %w", c.node, explain(err))
	}
	return node.Status.Allocatable, nil
}

// Release ends the watches that only this volume needs.
func (c *Client) Release(user projector.Key) {
	c.configMaps.release(user)
	c.rootCAs.release(user)
	c.secrets.release(user)
	c.trustBundles.release(user)
}

// ConfirmGone asks the API server itself, not one of its caches, whether the
// Pod is still on this node. It goes by a LIST: a GET of a deleted Pod is
// answered 403 for ever to a node identity, which proves nothing.
func (c *Client) ConfirmGone(ctx context.Context, ref projector.PodRef) (bool, error) {
	found, _, err := c.lookUpPod(ctx, ref)
	return found == nil, err
}

// FindPod returns the Pod of this node with this namespace, name and UID, which a
// watch may not have shown yet. Its errors are projector.ErrNoPod,
// projector.ErrOtherPod and the API's. The Pod must not be changed.
func (c *Client) FindPod(ctx context.Context, ref projector.PodRef) (*corev1.Pod, error) {
	pod, other := c.Pod(ref.UID), false
	if pod == nil {
		var err error
		if pod, other, err = c.lookUpPod(ctx, ref); err != nil {
			return nil, err
		}
	}
	switch {
	case other, pod != nil && (pod.Namespace != ref.Namespace || pod.Name != ref.Name):
		return nil, projector.ErrOtherPod
	case pod == nil:
		return nil, projector.ErrNoPod
	}
	return pod, nil
}

// lookUpPod lists what has the Pod's name, or all Pods of the node if that is not
// known, and says whether there is another one of the name.
func (c *Client) lookUpPod(ctx context.Context, ref projector.PodRef) (pod *corev1.Pod, other bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	selector := fields.OneTermEqualSelector("spec.nodeName", c.node)
	if ref.Name != "" {
		selector = fields.AndSelectors(selector, fields.OneTermEqualSelector("metadata.name", ref.Name))
	}
	var pods corev1.PodList
	err = c.core.Get().Namespace(ref.Namespace).Resource("pods").
		VersionedParams(&metav1.ListOptions{FieldSelector: selector.String()}, metav1.ParameterCodec).
		Do(ctx).Into(&pods)
	if err != nil {
		return nil, false, explain(err)
	}
	for i := range pods.Items {
		if pods.Items[i].UID == ref.UID {
			c.vouched.add(&pods.Items[i])
			return &pods.Items[i], false, nil
		}
	}
	return nil, ref.Name != "" && len(pods.Items) > 0, nil
}

// ServiceAccountUID looks a ServiceAccount up that a Pod of the node uses.
func (c *Client) ServiceAccountUID(ctx context.Context, namespace, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var account metav1.PartialObjectMetadata
	err := c.core.Get().Namespace(namespace).Resource("serviceaccounts").Name(name).
		SetHeader("Accept", metadataOnly("PartialObjectMetadata")).Do(ctx).Into(&account)
	return string(account.UID), err
}

// ServerTime is what time it is for the API server, to about a second, and
// whether that is known.
func (c *Client) ServerTime() (time.Time, bool) { return c.connection.clock.now() }

// ForgetServerTime is for when the machine slept: nothing here counted that.
func (c *Client) ForgetServerTime() { c.connection.clock.forget() }

// LearnServerTime asks the API server for anything, for the time of its answer.
func (c *Client) LearnServerTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return explain(c.core.Get().AbsPath("/version").Do(ctx).Error())
}
