package kube

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/token-projector/token-projector/projector"
	"github.com/token-projector/token-projector/rotation"
)

var (
	_ projector.Cluster = (*Client)(nil)
	_ rotation.Minter   = (*Client)(nil)
)

// Mint makes one TokenRequest, bound to the Pod by name and UID as
// NodeRestriction demands. It implements rotation.Minter.
func (c *Client) Mint(ctx context.Context, r rotation.Request) (rotation.Token, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	seconds := int64(r.Lifetime / time.Second)
	body := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: r.Pod.Name, UID: types.UID(r.Pod.UID),
		},
	}}
	if r.Audience != "" {
		body.Spec.Audiences = []string{r.Audience}
	}
	var answer authenticationv1.TokenRequest
	err := c.core.Post().Namespace(r.Namespace).Resource("serviceaccounts").Name(r.ServiceAccount).SubResource("token").
		Body(body).Do(ctx).Into(&answer)
	if err != nil {
		return rotation.Token{}, time.Time{}, fmt.Errorf("requesting a token of ServiceAccount %s/%s: %w",
			r.Namespace, r.ServiceAccount, markCatchingUp(explain(err)))
	}
	return rotation.NewToken(answer.Status.Token), answer.Status.ExpirationTimestamp.Time, nil
}

// ConfigMap returns a ConfigMap that a Pod of the node references, as a watch
// last saw it, and has the volume looked at again when it changes, until it is
// released. Its errors are the API's. It works while Run does.
func (c *Client) ConfigMap(ctx context.Context, user projector.Key, namespace, name string) (*corev1.ConfigMap, error) {
	return c.configMaps.get(ctx, c.running, user, objectName{namespace, name})
}

// Release ends the watches that only this volume needs.
func (c *Client) Release(user projector.Key) { c.configMaps.release(user) }

// ConfirmGone asks the API server itself, not one of its caches, whether the
// Pod is still on this node. It goes by a LIST: a GET of a deleted Pod is
// answered 403 for ever to a node identity, which proves nothing.
func (c *Client) ConfirmGone(ctx context.Context, ref projector.PodRef) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	selector := fields.OneTermEqualSelector("spec.nodeName", c.node)
	if ref.Name != "" {
		selector = fields.AndSelectors(selector, fields.OneTermEqualSelector("metadata.name", ref.Name))
	}
	var pods corev1.PodList
	err := c.core.Get().Namespace(ref.Namespace).Resource("pods").
		VersionedParams(&metav1.ListOptions{FieldSelector: selector.String()}, metav1.ParameterCodec).
		Do(ctx).Into(&pods)
	if err != nil {
		return false, explain(err)
	}
	for i := range pods.Items {
		if pods.Items[i].UID == ref.UID {
			return false, nil
		}
	}
	return true, nil
}
